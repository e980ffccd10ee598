import type { IDisposable } from '@lumino/disposable';

import type { Live } from '../../api/live';
import {
  MOST_POINTS,
  type Experiment,
  type Metric,
  type ModelVersion,
  type RegisteredModel,
  type TrackedRun,
  type Tracking,
  type Workspace
} from '../../api/mlflow';
import { LOADING, Store, load, type Loadable } from '../../store';

export interface ModelRow {
  model: RegisteredModel;
  versions: readonly ModelVersion[];
}

export interface ExperimentsState {
  workspaces: readonly Workspace[];
  /** Whose experiments are shown; one's own when it is not said. */
  workspace: string | undefined;
  experiments: Loadable<readonly Experiment[]>;
  models: Loadable<readonly ModelRow[]>;
  chosen: string | undefined;
  runs: Loadable<readonly TrackedRun[]>;
  selected: ReadonlySet<string>;
  sort: Sort;
  search: string;
}

export interface Sort {
  by: string;
  down: boolean;
}

const REFRESH_MS = 5_000;
/** Models seldom change, and core tells of a change of one's own: this is for those of others in a group. */
const MODELS_MS = 60_000;

/**
 * Experiments, the runs of the chosen one, and the registered models. MLflow tells of no changes: polled, unless it
 * is `hidden` from everybody; whoever shows it again refreshes it.
 */
export class ExperimentsModel extends Store<ExperimentsState> {
  private readonly _watches: IDisposable[];
  /** When models were last asked for. */
  private _modelsAt = -Infinity;
  private _timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly _tracking: Tracking,
    live: Live,
    private readonly _hidden: () => boolean = () => document.hidden,
    private readonly _now: () => number = Date.now
  ) {
    super({
      workspaces: [],
      workspace: undefined,
      experiments: LOADING,
      models: LOADING,
      chosen: undefined,
      runs: LOADING,
      selected: new Set(),
      sort: { by: 'start', down: true },
      search: ''
    });
    this._watches = [
      live.watch(['model'], () => (this._modelsAt = -Infinity)),
      live.watch(['experiment', 'model', 'run'], () => void this.look())
    ];
  }

  override dispose(): void {
    clearTimeout(this._timer);
    this._watches.forEach(each => each.dispose());
    super.dispose();
  }

  async refresh(): Promise<void> {
    const { chosen, workspace } = this.state;
    const { tracking } = this;
    const modelsDue = chosen === undefined && this._now() - this._modelsAt >= MODELS_MS;
    if (modelsDue) {
      this._modelsAt = this._now();
    }
    const [workspaces, experiments, models, runs] = await Promise.all([
      load({ value: this.state.workspaces, problem: undefined }, () => tracking.workspaces()),
      load(this.state.experiments, () => tracking.experiments()),
      modelsDue ? load(this.state.models, () => modelRows(tracking)) : undefined,
      chosen === undefined ? this.state.runs : load(this.state.runs, () => tracking.runs(chosen))
    ]);
    if (workspace !== this.state.workspace) {
      return; // another one was chosen meanwhile
    }
    this.set({ workspaces: workspaces.value ?? [], experiments, ...(models && { models }) });
    if (models?.problem) {
      this._modelsAt = -Infinity;
    }
    if (chosen !== undefined && chosen === this.state.chosen) {
      this.set({ runs });
    }
    clearTimeout(this._timer);
    if (!this.isDisposed) {
      this._timer = setTimeout(() => void this.look(), REFRESH_MS);
    }
  }

  /** Look at everything now. */
  async reload(): Promise<void> {
    this._modelsAt = -Infinity;
    await this.refresh();
  }

  /** MLflow as the chosen workspace sees it. */
  get tracking(): Tracking {
    return this._tracking.of(this.state.workspace);
  }

  async share(workspace: string | undefined): Promise<void> {
    this.set({ workspace, experiments: LOADING, models: LOADING, chosen: undefined, runs: LOADING });
    await this.reload();
  }

  async choose(experiment: string | undefined): Promise<void> {
    this.set({ chosen: experiment, runs: LOADING, selected: new Set(), search: '' });
    await this.refresh();
  }

  select(run: string): void {
    const selected = new Set(this.state.selected);
    if (!selected.delete(run)) {
      selected.add(run);
    }
    this.set({ selected });
  }

  sortBy(by: string): void {
    const { sort } = this.state;
    this.set({ sort: { by, down: sort.by === by ? !sort.down : true } });
  }

  find(search: string): void {
    this.set({ search });
  }

  /** Look again later; watching stops while the panel is closed. */
  rest(): void {
    clearTimeout(this._timer);
  }

  private async look(): Promise<void> {
    clearTimeout(this._timer);
    if (this._hidden()) {
      this._timer = setTimeout(() => void this.look(), REFRESH_MS);
    } else {
      await this.refresh();
    }
  }
}

async function modelRows(tracking: Tracking): Promise<ModelRow[]> {
  const [models, found] = await Promise.all([tracking.models(), tracking.versions()]);
  const versions = new Map<string, ModelVersion[]>(models.map(({ name }) => [name, []]));
  found.forEach(each => versions.get(each.name)?.push(each));
  return models.map(model => ({ model, versions: sortVersions(versions.get(model.name) ?? []) }));
}

function sortVersions(versions: ModelVersion[]): ModelVersion[] {
  return versions.sort((a, b) => Number(b.version) - Number(a.version));
}

export const metricOf = (run: TrackedRun, key: string): number | undefined =>
  run.data.metrics?.find(each => each.key === key)?.value;
export const paramOf = (run: TrackedRun, key: string): string | undefined =>
  run.data.params?.find(each => each.key === key)?.value;

export const tagOf = (run: TrackedRun, key: string): string | undefined =>
  run.data.tags?.find(each => each.key === key)?.value;

/** Names of all metrics (or params) of these runs, the most common first. */
export function keysOf(runs: readonly TrackedRun[], what: 'metrics' | 'params'): string[] {
  const counted = new Map<string, number>();
  for (const run of runs) {
    for (const { key } of run.data[what] ?? []) {
      counted.set(key, (counted.get(key) ?? 0) + 1);
    }
  }
  return [...counted.entries()].sort(([a, n], [b, m]) => m - n || a.localeCompare(b)).map(([key]) => key);
}

/** The value that a column of the table sorts by: 'start', 'name', 'metric:auc', 'param:depth'. */
export function sortValue(run: TrackedRun, by: string): number | string | undefined {
  const [kind, key = ''] = by.split(/:(.*)/s);
  if (kind === 'metric') {
    return metricOf(run, key);
  }
  if (kind === 'param') {
    const value = paramOf(run, key);
    return value !== undefined && value.trim() !== '' && Number.isFinite(Number(value)) ? Number(value) : value;
  }
  return kind === 'name' ? run.info.run_name : Number(run.info.start_time);
}

/** Runs that match, in the asked order; those without the value come last either way. */
export function arrange(runs: readonly TrackedRun[], search: string, sort: Sort): TrackedRun[] {
  const wanted = search.trim().toLowerCase();
  const found = runs.filter(run => wanted === '' || textOf(run).includes(wanted));
  return found.sort((one, other) => {
    const [a, b] = [sortValue(one, sort.by), sortValue(other, sort.by)];
    if (a === undefined || b === undefined) {
      return a === b ? 0 : a === undefined ? 1 : -1;
    }
    const order = typeof a === 'number' && typeof b === 'number' ? a - b : String(a).localeCompare(String(b));
    return sort.down ? -order : order;
  });
}

function textOf(run: TrackedRun): string {
  const params = (run.data.params ?? []).map(each => `${each.key}=${each.value}`);
  return [run.info.run_name, userOf(run), ...params].join(' ').toLowerCase();
}

export function userOf(run: TrackedRun): string {
  return tagOf(run, 'mlflow.user') ?? run.info.user_id ?? '';
}

export interface Compared {
  key: string;
  values: (string | undefined)[];
  differs: boolean;
}

/** One row per param over the runs; those that differ first. */
export function diffParams(runs: readonly TrackedRun[]): Compared[] {
  const rows = keysOf(runs, 'params').map(key => {
    const values = runs.map(run => paramOf(run, key));
    return { key, values, differs: new Set(values).size > 1 };
  });
  return rows.sort((a, b) => Number(b.differs) - Number(a.differs));
}

/** Whether a curve may have more points than these. */
export const areSampled = (histories: readonly (readonly Metric[])[]): boolean =>
  histories.some(points => points.length >= MOST_POINTS);

/** Columns for a line plot: a shared x axis (steps) and one column a run, null where it has no value. */
export function alignSteps(histories: readonly (readonly Metric[])[]): [number[], ...(number | null)[][]] {
  const steps = [...new Set(histories.flatMap(points => points.map(point => Number(point.step))))].sort((a, b) => a - b);
  const columns = histories.map(points => {
    const known = new Map(points.map(point => [Number(point.step), point.value]));
    return steps.map(step => known.get(step) ?? null);
  });
  return [steps, ...columns];
}
