import { useEffect, type ReactNode } from 'react';

import { MOST_RUNS, type Experiment, type TrackedRun } from '../../api/mlflow';
import { Command, type Labwright } from '../../context';
import { figure } from '../../format';
import { Header } from '../../ui/panel';
import { Ago, Listing, Search, State, useStore } from '../../ui/states';
import { arrange, keysOf, metricOf, paramOf, userOf, type ExperimentsModel, type ModelRow } from './model';

interface Props {
  lw: Labwright;
  model: ExperimentsModel;
}

const SHOWN_KEYS = 12;

export function ExperimentsPanel({ lw, model }: Props): JSX.Element {
  const { trans } = lw;
  const state = useStore(model);
  useEffect(() => {
    void model.refresh();
    return () => model.rest();
  }, [model]);
  const chosen = state.experiments.value?.find(each => each.experiment_id === state.chosen);
  return (
    <>
      <Header title={trans.__('Experiments')} trans={trans} onRefresh={() => void model.reload()}>
        <button
          className="lw-link"
          onClick={() =>
            void lw.commands.execute(Command.openMlflow, {
              experiment: state.chosen,
              workspace: state.workspace ?? state.workspaces[0]?.name
            })
          }
        >
          MLflow ↗
        </button>
      </Header>
      {chosen ? (
        <Runs lw={lw} model={model} experiment={chosen} />
      ) : (
        <div className="lw-scroll">
          {state.workspaces.length > 1 && (
            <select
              className="lw-input lw-search"
              aria-label={trans.__('Whose experiments')}
              value={state.workspace ?? state.workspaces[0]?.name}
              onChange={event => void model.share(event.target.value)}
            >
              {state.workspaces.map((each, at) => (
                <option key={each.name} value={each.name}>
                  {at === 0 ? trans.__('My own') : trans.__('Shared with %1', each.description)}
                </option>
              ))}
            </select>
          )}
          <Experiments lw={lw} model={model} />
          <Models lw={lw} model={model} />
        </div>
      )}
    </>
  );
}

function Experiments({ lw, model }: Props): JSX.Element {
  const { trans } = lw;
  const start = (): void => {
    void lw.commands.execute(Command.insertCell, { source: '%track my-experiment', run: false });
  };
  return (
    <section aria-label={trans.__('All experiments')}>
      <Listing
        trans={trans}
        of={model.state.experiments}
        isEmpty={value => value.length === 0}
        retry={() => void model.reload()}
        empty={
          <>
            <p>{trans.__('Nothing is tracked yet. One line in a notebook starts it: %track and a name.')}</p>
            <button className="lw-button lw-mod-primary" onClick={start}>
              {trans.__('Insert %track')}
            </button>
          </>
        }
      >
        {experiments => (
          <ul className="lw-plain">
            {experiments.map(each => (
              <li key={each.experiment_id}>
                <button className="lw-run" onClick={() => void model.choose(each.experiment_id)}>
                  <span className="lw-run-name">{each.name}</span>
                  {each.last_update_time !== undefined && (
                    <span className="lw-faint">
                      <Ago time={Number(each.last_update_time)} />
                    </span>
                  )}
                </button>
              </li>
            ))}
          </ul>
        )}
      </Listing>
    </section>
  );
}

function Models({ lw, model }: Props): JSX.Element | null {
  const { trans } = lw;
  const { experiments } = model.state;
  // The experiments above say what is wrong; what was known before stays.
  const models = experiments.problem ? { ...model.state.models, problem: undefined } : model.state.models;
  if (models.value === undefined && experiments.problem) {
    return null;
  }
  return (
    <section aria-label={trans.__('Registered models')}>
      <h3>{trans.__('Registered models')}</h3>
      <Listing
        trans={trans}
        of={models}
        rows={2}
        isEmpty={value => value.length === 0}
        empty={<p>{trans.__('No model is registered. After a tracked fit, %register puts it here.')}</p>}
        retry={() => void model.reload()}
      >
        {rows => (
          <ul className="lw-plain">
            {rows.map(row => (
              <ModelItem key={row.model.name} lw={lw} row={row} />
            ))}
          </ul>
        )}
      </Listing>
    </section>
  );
}

function ModelItem({ lw, row }: { lw: Labwright; row: ModelRow }): JSX.Element {
  const { trans } = lw;
  return (
    <li className="lw-model">
      <strong>{row.model.name}</strong>
      <ul>
        {row.versions.map(version => (
          <li key={version.version}>
            <span>{trans.__('version %1', version.version)}</span>
            {(row.model.aliases ?? [])
              .filter(alias => String(alias.version) === String(version.version))
              .map(alias => (
                <span key={alias.alias} className="lw-chip">
                  @{alias.alias}
                </span>
              ))}
            <span className="lw-faint">
              <Ago time={Number(version.creation_timestamp)} />
            </span>
          </li>
        ))}
      </ul>
    </li>
  );
}

function Runs({ lw, model, experiment }: Props & { experiment: Experiment }): JSX.Element {
  const { trans } = lw;
  const { state } = model;
  const compare = (): void => {
    void lw.commands.execute(Command.compareRuns, {
      experiment: experiment.experiment_id,
      runs: [...state.selected],
      workspace: state.workspace
    });
  };
  return (
    <>
      <div className="lw-crumbs">
        <button className="lw-link" onClick={() => void model.choose(undefined)}>
          ‹ {trans.__('All')}
        </button>
        <strong title={experiment.name}>{experiment.name}</strong>
      </div>
      <Search label={trans.__('Search runs')} value={state.search} onChange={text => model.find(text)} />
      <div className="lw-actions lw-pad-x">
        <button className="lw-button lw-mod-primary" disabled={state.selected.size < 2} onClick={compare}>
          {state.selected.size < 2
            ? trans.__('Select two to compare')
            : trans.__('Compare %1 runs', state.selected.size)}
        </button>
      </div>
      <div className="lw-scroll">
        <Listing
          trans={trans}
          of={state.runs}
          isEmpty={value => value.length === 0}
          empty={<p>{trans.__('This experiment has no runs yet. Fit something below %track.')}</p>}
          retry={() => void model.reload()}
        >
          {runs => (
            <>
              <RunTable lw={lw} model={model} runs={runs} />
              {runs.length >= MOST_RUNS && (
                <p className="lw-cut">{trans.__('These are the newest %1 runs. MLflow ↗ has all of them.', runs.length)}</p>
              )}
            </>
          )}
        </Listing>
      </div>
    </>
  );
}

/** A long name of a metric breaks behind its underscores and dots, so that its column stays narrow. */
const breakable = (text: string): ReactNode[] =>
  text.split(/(?<=[_.])/).flatMap((part, at) => (at === 0 ? [part] : [<wbr key={at} />, part]));

function RunTable({ lw, model, runs }: Props & { runs: readonly TrackedRun[] }): JSX.Element {
  const { trans } = lw;
  const { sort, search, selected } = model.state;
  const metrics = keysOf(runs, 'metrics').slice(0, SHOWN_KEYS);
  const params = keysOf(runs, 'params').slice(0, SHOWN_KEYS);
  const open = (id: string): void => {
    const workspace = model.state.workspace ?? model.state.workspaces[0]?.name;
    void lw.commands.execute(Command.openMlflow, { experiment: model.state.chosen, run: id, workspace });
  };
  const head = (by: string, text: string, kind: string): JSX.Element => (
    <th
      key={by}
      scope="col"
      className={kind}
      aria-sort={sort.by === by ? (sort.down ? 'descending' : 'ascending') : 'none'}
    >
      <button onClick={() => model.sortBy(by)} title={text}>
        {breakable(text)}
        <span aria-hidden="true">{sort.by === by ? (sort.down ? ' ▾' : ' ▴') : ''}</span>
      </button>
    </th>
  );
  return (
    <div className="lw-grid-frame" tabIndex={0} role="region" aria-label={trans.__('Runs')}>
      <table className="lw-grid lw-mod-runs">
        <thead>
          <tr>
            <th scope="col">
              <span className="lw-hidden">{trans.__('Select')}</span>
            </th>
            {head('name', trans.__('Run'), '')}
            {metrics.map(key => head(`metric:${key}`, key, 'lw-mod-number'))}
            {params.map(key => head(`param:${key}`, key, 'lw-mod-param'))}
            {head('start', trans.__('Started'), '')}
          </tr>
        </thead>
        <tbody>
          {arrange(runs, search, sort).map(run => {
            const { run_id, run_name, start_time, status } = run.info;
            return (
              <tr key={run_id} data-selected={selected.has(run_id)}>
                <td>
                  <input
                    type="checkbox"
                    checked={selected.has(run_id)}
                    onChange={() => model.select(run_id)}
                    aria-label={trans.__('Select %1', run_name)}
                  />
                </td>
                <th scope="row">
                  <button
                    title={trans.__('%1 by %2, %3: open in MLflow', run_name, userOf(run), status.toLowerCase())}
                    onClick={() => open(run_id)}
                  >
                    <State state={status} text={status.toLowerCase()} of={run_name} />
                  </button>
                </th>
                {metrics.map(key => {
                  const value = metricOf(run, key);
                  return (
                    <td key={key} className="lw-mod-number">
                      {value === undefined ? '–' : figure(value)}
                    </td>
                  );
                })}
                {params.map(key => (
                  <td key={key}>{paramOf(run, key) ?? '–'}</td>
                ))}
                <td className="lw-faint">
                  <Ago time={Number(start_time)} />
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}
