import type { IDisposable } from '@lumino/disposable';

import { MOST_RUNS, type Api } from '../../api/client';
import type { Live } from '../../api/live';
import type { Me, ProfileCard, Run } from '../../api/models';
import type { Problem } from '../../api/problem';
import { diffNotebooks, sourceLines, type DiffLine } from '../../notebook-diff';
import { ActingStore, LOADING, load, type Loadable } from '../../store';
import { isFinal, lookAgain } from './model';

type Notebook = Record<string, unknown>;

export const TABS = ['output', 'log', 'resources', 'source'] as const;
export type Tab = (typeof TABS)[number];

/** What the source of a run is compared with: the file as it is now, an earlier run's id, or nothing. */
export type Base = 'file' | 'nothing' | { run: string };

export interface RunState {
  run: Loadable<Run>;
  notebook: Loadable<Record<string, unknown>>;
  log: Loadable<string>;
  tab: Tab;
  /** The notebook as the run got it, and the lines that differ from what it is compared with. */
  source: Loadable<Notebook>;
  base: Base;
  diff: Loadable<readonly DiffLine[]>;
  /** Runs of the same job before and after, newest first. */
  others: readonly Run[];
  me: Me | undefined;
  problem: Problem | undefined;
}

/** One run as it grows. */
export class RunModel extends ActingStore<RunState> {
  private readonly _watch: IDisposable;
  private _timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly _api: Api,
    private readonly _live: Live,
    readonly id: string,
    private readonly _file: (path: string) => Promise<Notebook>,
    private readonly _hidden: () => boolean = () => document.hidden
  ) {
    super({
      run: LOADING,
      notebook: LOADING,
      log: LOADING,
      tab: 'output',
      source: LOADING,
      base: 'file',
      diff: LOADING,
      others: [],
      me: undefined,
      problem: undefined
    });
    this._watch = _live.watch(['run'], () => void this.refresh());
  }

  override dispose(): void {
    clearTimeout(this._timer);
    this._watch.dispose();
    super.dispose();
  }

  async refresh(): Promise<void> {
    const run = await load(this.state.run, () => this._api.run(this.id));
    this.set({ run });
    await this.loadTab();
    clearTimeout(this._timer);
    if (!this.isDisposed && run.value && !isFinal(run.value)) {
      this._timer = setTimeout(() => void this.look(), lookAgain(this._live));
    }
  }

  async show(tab: Tab): Promise<void> {
    this.set({ tab });
    await this.loadTab();
  }

  /** The profile that it runs on, when it is one of the person's; fetched once, for its name and what it costs. */
  get profile(): ProfileCard | undefined {
    return this.state.me?.profiles.find(card => card.slug === this.state.run.value?.profile);
  }

  async meet(): Promise<void> {
    this.set({ me: (await load<Me>(LOADING, () => this._api.me())).value });
  }

  async compareWith(base: Base): Promise<void> {
    this.set({ base, diff: LOADING });
    await this.loadSource();
  }

  async cancel(): Promise<void> {
    await this.act(() => this._api.cancelRun(this.id));
  }

  rerun(): Promise<Run | undefined> {
    const run = this.state.run.value;
    return run ? this.act(() => this._api.startRun(run.job_id, { parameters: run.parameters })) : Promise.resolve(undefined);
  }

  private async look(): Promise<void> {
    if (this._hidden()) {
      this._timer = setTimeout(() => void this.look(), lookAgain(this._live));
    } else {
      await this.refresh();
    }
  }

  private async loadTab(): Promise<void> {
    if (this.state.tab === 'output') {
      this.set({ notebook: await load(this.state.notebook, () => this._api.runNotebook(this.id)) });
    } else if (this.state.tab === 'log') {
      this.set({ log: await load(this.state.log, () => this._api.runLog(this.id)) });
    } else if (this.state.tab === 'resources') {
      this.set({ notebook: await load(this.state.notebook, () => this._api.runNotebook(this.id)) });
    } else if (this.state.diff.value === undefined) {
      await this.loadSource(); // once: the source of a run never changes
    }
  }

  private async loadSource(): Promise<void> {
    const { base, run } = this.state;
    const source = await load(this.state.source, () => this._api.runSource(this.id));
    this.set({ source });
    const { value } = source;
    if (value === undefined || run.value === undefined) {
      this.set({ diff: source.problem ? { value: undefined, problem: source.problem } : LOADING });
      return;
    }
    const { job_id, notebook_path } = run.value;
    const others = await load<readonly Run[]>(LOADING, async () => (await this._api.runs(job_id, MOST_RUNS)).items);
    const diff = await load<readonly DiffLine[]>(LOADING, async () => {
      if (base === 'nothing') {
        return sourceLines(value);
      }
      const before = await (base === 'file' ? this._file(notebook_path) : this._api.runSource(base.run));
      return base === 'file' ? diffNotebooks(value, before) : diffNotebooks(before, value);
    });
    if (base === this.state.base) {
      this.set({ diff, others: (others.value ?? []).filter(each => each.id !== this.id) });
    }
  }
}
