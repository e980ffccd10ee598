import type { IDisposable } from '@lumino/disposable';

import { MOST_RUNS, type Api } from '../../api/client';
import type { Live } from '../../api/live';
import type { Job, Run } from '../../api/models';
import type { Problem } from '../../api/problem';
import { ActingStore, AWAY_MS, LOADING, isAway, load, type Loadable } from '../../store';

const FINAL = new Set<Run['state']>(['succeeded', 'failed', 'timed-out', 'cancelled', 'lost']);

export const isFinal = (run: Pick<Run, 'state'>): boolean => FINAL.has(run.state);

/** 'running · cell 7 of 12', 'queued', … in a few words; `translate` gets each. */
export function runState(run: Pick<Run, 'state' | 'cell' | 'cells'>): string {
  if (run.state === 'running' && run.cells > 0) {
    return `running cell ${Math.min(run.cell + 1, run.cells)} of ${run.cells}`;
  }
  return { leased: 'starting', 'timed-out': 'timed out' }[run.state as string] ?? run.state;
}

export function seconds(run: Pick<Run, 'started' | 'finished'>, now: number): number | undefined {
  if (run.started === null) {
    return undefined;
  }
  return ((run.finished === null ? now : Date.parse(run.finished)) - Date.parse(run.started)) / 1000;
}

export interface JobsState {
  jobs: Loadable<readonly Job[]>;
  /** Runs by job, once it has been opened. */
  runs: Readonly<Record<string, Loadable<readonly Run[]>>>;
  open: ReadonlySet<string>;
  /** Jobs whose older runs are shown too. */
  whole: ReadonlySet<string>;
  search: string;
  problem: Problem | undefined;
  currency: string | null;
}

const NEWEST_RUNS = 50;
const ACTIVE_MS = 1_500;
const REFRESH_MS = 30_000;

/** How soon to look again at what runs: seldom while changes are told of. */
export const lookAgain = (live: Live): number => (live.flows ? REFRESH_MS : ACTIVE_MS);

/** Jobs and their runs; live by events, and by a poll as long as something runs and no events come. */
export class JobsModel extends ActingStore<JobsState> {
  private readonly _watch: IDisposable;
  private _timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly _api: Api,
    private readonly _live: Live,
    private readonly _hidden: () => boolean = () => document.hidden
  ) {
    super({ jobs: LOADING, runs: {}, open: new Set(), whole: new Set(), search: '', problem: undefined, currency: null });
    this._watch = _live.watch(['job', 'run'], () => void this.refresh());
  }

  override dispose(): void {
    clearTimeout(this._timer);
    this._watch.dispose();
    super.dispose();
  }

  async refresh(): Promise<void> {
    const { search } = this.state;
    const jobs = await load(this.state.jobs, async () => (await this._api.jobs({ search })).items);
    if (search !== this.state.search) {
      return;
    }
    this.set({ jobs });
    await Promise.all([...this.state.open].map(id => this.loadRuns(id)));
    this.plan();
  }

  async find(search: string): Promise<void> {
    this.set({ search });
    await this.refresh();
  }

  async toggle(job: string): Promise<void> {
    const open = new Set(this.state.open);
    if (open.delete(job)) {
      this.set({ open });
      return;
    }
    this.set({ open: open.add(job) });
    await this.loadRuns(job);
  }

  /** How many runs of a job are shown. */
  most(job: string): number {
    return this.state.whole.has(job) ? MOST_RUNS : NEWEST_RUNS;
  }

  async older(job: string): Promise<void> {
    this.set({ whole: new Set(this.state.whole).add(job) });
    await this.loadRuns(job);
  }

  /** Start a run with the job's parameters, or with those of a run before. */
  async rerun(job: string, parameters: Record<string, unknown> = {}): Promise<Run | undefined> {
    const run = await this.act(() => this._api.startRun(job, { parameters }));
    return run;
  }

  cancel = (run: string): Promise<unknown> => this.act(() => this._api.cancelRun(run));
  pause = (job: string, paused: boolean): Promise<unknown> => this.act(() => this._api.updateJob(job, { paused }));
  forget = (): void => this.set({ problem: undefined });

  /** Whether the job is deleted now. */
  async remove(job: string): Promise<boolean> {
    const removed = await this.act(async () => {
      await this._api.deleteJob(job);
      return true;
    });
    return removed === true;
  }

  /** Take a deletion back; what went wrong is thrown, since the notice that asked for it outlives this panel. */
  async restore(job: string): Promise<void> {
    await this._api.restoreJob(job);
    await this.refresh();
  }

  private async loadRuns(job: string): Promise<void> {
    const before = this.state.runs[job] ?? LOADING;
    this.set({ runs: { ...this.state.runs, [job]: before } });
    const runs = await load(before, async () => (await this._api.runs(job, this.most(job))).items);
    this.set({ runs: { ...this.state.runs, [job]: runs } });
  }

  private plan(): void {
    clearTimeout(this._timer);
    if (!this.isDisposed) {
      const active = (this.state.jobs.value ?? []).some(job => job.last_run && !isFinal(job.last_run));
      const pause = isAway(this.state.jobs) ? AWAY_MS : active ? lookAgain(this._live) : REFRESH_MS;
      this._timer = setTimeout(() => (this._hidden() ? this.plan() : void this.refresh()), pause);
    }
  }
}
