import { Dialog, Notification, showDialog } from '@jupyterlab/apputils';
import { addIcon, caretDownIcon, caretRightIcon } from '@jupyterlab/ui-components';
import { useEffect } from 'react';

import { JOBS_PAGE, MOST_RUNS } from '../../api/client';
import type { Job, Run } from '../../api/models';
import { asProblem } from '../../api/problem';
import { Command, type Labwright } from '../../context';
import { absolute, duration, inZone } from '../../format';
import { LOADING } from '../../store';
import { Header } from '../../ui/panel';
import { Ago, ErrorNote, Listing, Search, State, useNow, useStore } from '../../ui/states';
import { isFinal, runState, seconds, type JobsModel } from './model';

/** How long the notice of a deletion stays in sight; after that Lab keeps it among the notifications. */
const UNDO_MS = 10_000;

interface Props {
  lw: Labwright;
  model: JobsModel;
}

export function JobsPanel({ lw, model }: Props): JSX.Element {
  const { trans } = lw;
  const state = useStore(model);
  useEffect(() => void model.refresh(), [model]);
  const schedule = (): void => void lw.commands.execute(Command.schedule);
  return (
    <>
      <Header title={trans.__('Jobs')} trans={trans} onRefresh={() => void model.refresh()}>
        <button
          className="lw-icon-button"
          title={trans.__('Schedule the notebook in front')}
          aria-label={trans.__('Schedule the notebook in front')}
          onClick={schedule}
        >
          <addIcon.react tag="span" elementSize="normal" />
        </button>
      </Header>
      <Search label={trans.__('Search jobs')} value={state.search} onChange={text => void model.find(text)} />
      <div className="lw-scroll">
        {state.problem && <ErrorNote trans={trans} problem={state.problem} retry={model.forget} />}
        <Listing
          trans={trans}
          of={state.jobs}
          isEmpty={value => value.length === 0}
          retry={() => void model.refresh()}
          empty={
            state.search ? (
              <p>{trans.__('No job matches.')}</p>
            ) : (
              <>
                <p>{trans.__('No job yet. Open a notebook and schedule it, or run it once in the background.')}</p>
                <button className="lw-button lw-mod-primary" onClick={schedule}>
                  {trans.__('Schedule a notebook')}
                </button>
              </>
            )
          }
        >
          {jobs => (
            <>
              <ul className="lw-jobs" aria-label={trans.__('Jobs')}>
                {jobs.map(job => (
                  <JobItem key={job.id} lw={lw} model={model} job={job} />
                ))}
              </ul>
              {jobs.length >= JOBS_PAGE && (
                <p className="lw-cut">{trans.__('These are the newest %1 jobs. Search finds older ones.', jobs.length)}</p>
              )}
            </>
          )}
        </Listing>
      </div>
    </>
  );
}

function JobItem({ lw, model, job }: Props & { job: Job }): JSX.Element {
  const { trans } = lw;
  const open = model.state.open.has(job.id);
  const Caret = open ? caretDownIcon : caretRightIcon;
  const run = job.last_run;
  return (
    <li className="lw-job">
      <button className="lw-job-head" aria-expanded={open} onClick={() => void model.toggle(job.id)}>
        <Caret.react tag="span" elementSize="normal" />
        <span className="lw-job-name" title={job.notebook_path}>
          {job.name}
        </span>
      </button>
      {(job.paused || run) && (
        <p className="lw-job-when">
          {job.paused ? <State state="cancelled" text={trans.__('paused')} /> : run && <RunBadge run={run} />}
        </p>
      )}
      {run?.state === 'queued' && run.reason !== null && <p className="lw-job-when">{run.reason}</p>}
      <p className="lw-job-when">
        {job.schedule === null ? (
          trans.__('runs when asked')
        ) : job.next_firings[0] === undefined || job.paused ? (
          <span>{job.schedule.timezone}</span>
        ) : (
          <>
            {trans.__('next')}{' '}
            <span title={absolute(job.next_firings[0])}>{inZone(job.next_firings[0], job.schedule.timezone)}</span>
            <span className="lw-faint"> {job.schedule.timezone}</span>
          </>
        )}
      </p>
      {open && <JobDetails lw={lw} model={model} job={job} />}
    </li>
  );
}

function JobDetails({ lw, model, job }: Props & { job: Job }): JSX.Element {
  const { trans } = lw;
  const runs = model.state.runs[job.id] ?? LOADING;
  const runNow = async (): Promise<void> => {
    const run = await model.rerun(job.id);
    if (run) {
      await lw.commands.execute(Command.openRun, { id: run.id });
    }
  };
  return (
    <div className="lw-job-body">
      <div className="lw-actions">
        <button className="lw-button lw-mod-primary" onClick={() => void runNow()}>
          {trans.__('Run now')}
        </button>
        {job.schedule && (
          <button className="lw-button" onClick={() => void model.pause(job.id, !job.paused)}>
            {job.paused ? trans.__('Resume') : trans.__('Pause')}
          </button>
        )}
        <button className="lw-button lw-mod-danger" onClick={() => void askDelete(lw, model, job)}>
          {trans.__('Delete')}
        </button>
      </div>
      {job.schedule && job.next_firings.length > 1 && !job.paused && (
        <p className="lw-firings">
          {trans.__('then')}{' '}
          {job.next_firings.slice(1).map(time => (
            <span key={time} title={absolute(time)}>
              {inZone(time, job.schedule!.timezone)}
            </span>
          ))}
        </p>
      )}
      <Listing
        trans={trans}
        of={runs}
        rows={2}
        isEmpty={value => value.length === 0}
        empty={<p>{trans.__('It has not run yet.')}</p>}
        retry={() => void model.refresh()}
      >
        {value => (
          <>
            <ul className="lw-runs" aria-label={trans.__('Runs of %1', job.name)}>
              {value.map(run => (
                <RunItem key={run.id} lw={lw} run={run} />
              ))}
            </ul>
            {value.length >= MOST_RUNS ? (
              <p className="lw-cut">{trans.__('These are the newest %1 runs.', value.length)}</p>
            ) : (
              value.length >= model.most(job.id) && (
                <button className="lw-button lw-mod-quiet" onClick={() => void model.older(job.id)}>
                  {trans.__('Show older runs')}
                </button>
              )
            )}
          </>
        )}
      </Listing>
    </div>
  );
}

function RunItem({ lw, run }: { lw: Labwright; run: Run }): JSX.Element {
  const now = useNow(isFinal(run) ? 60_000 : 1_000);
  const lasted = seconds(run, now);
  return (
    <li>
      <button
        className="lw-run"
        onClick={() => void lw.commands.execute(Command.openRun, { id: run.id })}
        title={run.reason ?? undefined}
      >
        <span className="lw-run-number">#{run.number}</span>
        <RunBadge run={run} />
        <span className="lw-faint">
          <Ago time={run.created} />
          {lasted !== undefined && isFinal(run) && ` · ${duration(lasted)}`}
        </span>
      </button>
    </li>
  );
}

export function RunBadge({ run }: { run: Run }): JSX.Element {
  return <State state={run.state} text={runState(run)} />;
}

async function askDelete(lw: Labwright, model: JobsModel, job: Job): Promise<void> {
  const { trans } = lw;
  const answer = await showDialog({
    title: trans.__('Delete %1?', job.name),
    body: trans.__('Its schedule ends and what of it runs is stopped. The notebook itself stays.'),
    buttons: [Dialog.cancelButton(), Dialog.warnButton({ label: trans.__('Delete') })]
  });
  if (answer.button.accept && (await model.remove(job.id))) {
    Notification.info(trans.__("Job '%1' was deleted.", job.name), {
      autoClose: UNDO_MS,
      actions: [{ label: trans.__('Undo'), callback: () => void undo(model, job) }]
    });
  }
}

async function undo(model: JobsModel, job: Job): Promise<void> {
  try {
    await model.restore(job.id);
  } catch (error) {
    Notification.error(asProblem(error).sentences, { autoClose: false });
  }
}
