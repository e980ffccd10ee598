import { useEffect, useState } from 'react';

import type { TrackedRun, Tracking } from '../../api/mlflow';
import type { Labwright } from '../../context';
import { figure } from '../../format';
import { LOADING, load, type Loadable } from '../../store';
import { Listing } from '../../ui/states';
import { NotebooksDiff } from './compare-notebooks';
import { MetricPlot } from './metric-plot';
import { diffParams, keysOf, metricOf, userOf } from './model';
import { ParallelPlot } from './parallel-plot';

export interface CompareProps {
  lw: Labwright;
  experiment: string;
  runs: readonly string[];
  tracking: Tracking;
}

export function Compare({ lw, experiment, runs, tracking }: CompareProps): JSX.Element {
  const { trans } = lw;
  const [found, setFound] = useState<Loadable<readonly TrackedRun[]>>(LOADING);
  const fetchRuns = async (): Promise<void> => {
    setFound(await load(found, () => tracking.runsOf(experiment, runs)));
  };
  useEffect(() => void fetchRuns(), [experiment, runs]);
  return (
    <div className="lw-view">
      <div className="lw-view-head">
        <h1>{trans.__('Compare %1 runs', runs.length)}</h1>
      </div>
      <Listing
        trans={trans}
        of={found}
        rows={10}
        isEmpty={value => value.length === 0}
        empty={<p>{trans.__('These runs are gone.')}</p>}
        retry={() => void fetchRuns()}
      >
        {value => (
          <>
            {value.length < runs.length && (
              <p className="lw-cut">{trans.__('%1 of these runs are gone.', runs.length - value.length)}</p>
            )}
            <MetricPlot lw={lw} runs={value} tracking={tracking} />
            <h2>{trans.__('Parameters and metrics that differ')}</h2>
            <ParallelPlot lw={lw} runs={value} />
            <h2>{trans.__('Metrics')}</h2>
            <Matrix runs={value} rows={metricRows(value)} lw={lw} label={trans.__('Metrics')} />
            <h2>{trans.__('Parameters')}</h2>
            <Parameters runs={value} lw={lw} />
            <h2>{trans.__('Notebooks')}</h2>
            <NotebooksDiff lw={lw} runs={value} />
          </>
        )}
      </Listing>
    </div>
  );
}

interface MatrixRow {
  key: string;
  values: (string | undefined)[];
  differs: boolean;
}

interface MatrixProps {
  lw: Labwright;
  runs: readonly TrackedRun[];
  rows: MatrixRow[];
  label: string;
}

function metricRows(runs: readonly TrackedRun[]): MatrixRow[] {
  return keysOf(runs, 'metrics').map(key => {
    const values = runs.map(run => metricOf(run, key));
    return {
      key,
      values: values.map(value => (value === undefined ? undefined : figure(value))),
      differs: new Set(values).size > 1
    };
  });
}

/** Those that differ; the others on demand, since a fitted model logs dozens. */
function Parameters({ lw, runs }: { lw: Labwright; runs: readonly TrackedRun[] }): JSX.Element {
  const { trans } = lw;
  const [all, setAll] = useState(false);
  const rows = diffParams(runs);
  const equal = rows.filter(row => !row.differs).length;
  return (
    <>
      {equal > 0 && (
        <label className="lw-check">
          <input type="checkbox" checked={all} onChange={event => setAll(event.target.checked)} />
          {trans.__('Show the %1 that are equal too', equal)}
        </label>
      )}
      {!all && equal > 0 && equal === rows.length ? (
        <p className="lw-faint">{trans.__('All %1 are equal.', equal)}</p>
      ) : (
        <Matrix runs={runs} rows={all ? rows : rows.filter(row => row.differs)} lw={lw} label={trans.__('Parameters')} />
      )}
    </>
  );
}

function Matrix({ lw, runs, rows, label }: MatrixProps): JSX.Element {
  if (rows.length === 0) {
    return <p className="lw-faint">{lw.trans.__('None.')}</p>;
  }
  return (
    <div className="lw-grid-frame" tabIndex={0} role="region" aria-label={label}>
      <table className="lw-grid">
        <thead>
          <tr>
            <td />
            {runs.map(run => (
              <th key={run.info.run_id} scope="col">
                {run.info.run_name}
                <span className="lw-type">{userOf(run)}</span>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map(row => (
            <tr key={row.key} data-differs={row.differs}>
              <th scope="row" title={row.key}>
                {row.key}
              </th>
              {row.values.map((value, at) => (
                <td key={at} title={value}>
                  {value ?? '–'}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
