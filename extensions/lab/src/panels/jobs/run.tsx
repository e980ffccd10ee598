import { Widget } from '@lumino/widgets';
import { useEffect, useLayoutEffect, useRef } from 'react';

import type { CellError, Run } from '../../api/models';
import { Command, type Labwright } from '../../context';
import { bytes, money, took } from '../../format';
import { ErrorNote, Listing, useNow, useStore } from '../../ui/states';
import { isFinal, seconds } from './model';
import { NotebookView } from './output';
import { RunBadge } from './panel';
import { TABS, type RunModel, type Tab } from './run-model';
import { Resources } from './run-resources';
import { Source } from './run-source';

interface Props {
  lw: Labwright;
  model: RunModel;
}

/** One run in the main area. */
export function RunPage({ lw, model }: Props): JSX.Element {
  const { trans } = lw;
  const state = useStore(model);
  useEffect(() => {
    void model.refresh();
    void model.meet();
    return () => model.dispose();
  }, [model]);
  return (
    <div className="lw-view">
      <Listing trans={trans} of={state.run} rows={8} isEmpty={() => false} empty={null} retry={() => void model.refresh()}>
        {run => (
          <>
            <RunHead lw={lw} model={model} run={run} />
            {state.problem && <ErrorNote trans={trans} problem={state.problem} />}
            {run.error && <CellErrorNote lw={lw} error={run.error} />}
            {!run.error && run.reason && <p className="lw-reason">{run.reason}</p>}
            <Tabs lw={lw} model={model} run={run} />
            <div className="lw-tab-body" role="tabpanel" aria-label={trans.__('Run')}>
              {state.tab === 'output' && <Output lw={lw} model={model} run={run} />}
              {state.tab === 'log' && <Log lw={lw} model={model} />}
              {state.tab === 'resources' && <Resources lw={lw} model={model} run={run} />}
              {state.tab === 'source' && <Source lw={lw} model={model} />}
            </div>
          </>
        )}
      </Listing>
    </div>
  );
}

function RunHead({ lw, model, run }: Props & { run: Run }): JSX.Element {
  const { trans } = lw;
  const rerun = async (): Promise<void> => {
    const next = await model.rerun();
    if (next) {
      await lw.commands.execute(Command.openRun, { id: next.id });
    }
  };
  const given = Object.entries(run.parameters);
  return (
    <div className="lw-view-head">
      <div>
        <h1>
          {run.job_name} <span className="lw-faint">{trans.__('run %1', run.number)}</span> <RunBadge run={run} />
        </h1>
        <p className="lw-parameters">
          {given.length === 0 && <span className="lw-faint">{trans.__('no parameters')}</span>}
          {given.map(([name, value]) => (
            <code key={name}>
              {name}={typeof value === 'string' ? value : JSON.stringify(value)}
            </code>
          ))}
          <Facts lw={lw} model={model} run={run} />
        </p>
        {!isFinal(run) && run.cells > 0 && (
          <progress max={run.cells} value={run.cell} aria-label={trans.__('Cells finished')} />
        )}
      </div>
      {isFinal(run) ? (
        <button className="lw-button lw-mod-primary" onClick={() => void rerun()}>
          {trans.__('Run again')}
        </button>
      ) : (
        <button className="lw-button lw-mod-danger" onClick={() => void model.cancel()}>
          {trans.__('Cancel')}
        </button>
      )}
    </div>
  );
}

function Facts({ lw, model, run }: Props & { run: Run }): JSX.Element {
  const now = useNow(isFinal(run) ? 60_000 : 1_000);
  const lasted = seconds(run, now);
  const facts = [
    model.profile?.name ?? run.profile,
    money(run.cost, model.state.me?.currency),
    lasted === undefined ? undefined : took(lasted),
    run.peak_memory_bytes === null ? undefined : lw.trans.__('peak %1', bytes(run.peak_memory_bytes))
  ];
  return <span className="lw-faint">{facts.filter(Boolean).join(' · ')}</span>;
}

function CellErrorNote({ lw, error }: { lw: Labwright; error: CellError }): JSX.Element {
  const { trans } = lw;
  const show = (): void => document.getElementById(`lw-cell-${error.cell}`)?.scrollIntoView({ block: 'center' });
  return (
    <div className="lw-note lw-mod-error" role="alert">
      <p className="lw-note-what">
        {trans.__('Cell %1 failed:', error.cell + 1)} {error.name}: {error.message}
      </p>
      <details>
        <summary>{trans.__('Traceback')}</summary>
        <pre>{error.traceback}</pre>
      </details>
      <div className="lw-actions">
        <button className="lw-button" onClick={show}>
          {trans.__('Show the cell')}
        </button>
      </div>
    </div>
  );
}

function Tabs({ lw, model, run }: Props & { run: Run }): JSX.Element {
  const { trans } = lw;
  const list = useRef<HTMLDivElement>(null);
  const names: Record<Tab, string> = {
    output: trans.__('Output'),
    log: trans.__('Log'),
    resources: trans.__('Resources'),
    source: trans.__('Source & diff')
  };
  const step = (by: number): void => {
    const at = (TABS.indexOf(model.state.tab) + by + TABS.length) % TABS.length;
    void model.show(TABS[at] ?? 'output');
    list.current?.querySelectorAll('button')[at]?.focus();
  };
  const openMlflow = (): void => {
    const args = { experiment: run.mlflow_experiment_id, run: run.mlflow_run_id };
    void lw.commands.execute(Command.openMlflow, args);
  };
  return (
    <div className="lw-tabs">
      <div
        ref={list}
        role="tablist"
        aria-label={trans.__('Parts of the run')}
        onKeyDown={event => (event.key === 'ArrowRight' ? step(1) : event.key === 'ArrowLeft' ? step(-1) : undefined)}
      >
        {TABS.map(tab => (
          <button
            key={tab}
            role="tab"
            aria-selected={model.state.tab === tab}
            tabIndex={model.state.tab === tab ? 0 : -1}
            onClick={() => void model.show(tab)}
          >
            {names[tab]}
          </button>
        ))}
      </div>
      {run.mlflow_run_id && (
        <button className="lw-link" onClick={openMlflow}>
          {trans.__('MLflow run ↗')}
        </button>
      )}
    </div>
  );
}

function Output({ lw, model, run }: Props & { run: Run }): JSX.Element {
  const { trans } = lw;
  const { notebook } = model.state;
  const waiting = run.state === 'queued' || run.state === 'leased';
  if (waiting && notebook.value === undefined) {
    return <p className="lw-empty">{trans.__('The output appears here as soon as the first cell has run.')}</p>;
  }
  return (
    <Listing trans={trans} of={notebook} rows={10} isEmpty={() => false} empty={null} retry={() => void model.refresh()}>
      {content => <NotebookHost lw={lw} content={content} errorCell={run.error?.cell} />}
    </Listing>
  );
}

interface HostProps {
  lw: Labwright;
  content: Record<string, unknown>;
  errorCell: number | undefined;
}

function NotebookHost({ lw, content, errorCell }: HostProps): JSX.Element {
  const host = useRef<HTMLDivElement>(null);
  const view = useRef<NotebookView>();
  const error = useRef(errorCell);
  error.current = errorCell;
  // A layout effect: the widget must leave before React takes its host out of the page.
  useLayoutEffect(() => {
    const made = (view.current = new NotebookView(lw.rendermime, () => error.current));
    Widget.attach(made, host.current!);
    return () => made.dispose();
  }, [lw]);
  useEffect(() => view.current?.display(content), [content, errorCell]);
  return <div ref={host} className="lw-notebook-host" />;
}

function Log({ lw, model }: Props): JSX.Element {
  const { trans } = lw;
  return (
    <Listing
      trans={trans}
      of={model.state.log}
      isEmpty={value => value === ''}
      empty={<p>{trans.__('The log is empty so far.')}</p>}
      retry={() => void model.refresh()}
    >
      {text => (
        <pre className="lw-log" tabIndex={0}>
          {text}
        </pre>
      )}
    </Listing>
  );
}
