import type { IDisposable } from '@lumino/disposable';

import type { Api } from '../../api/client';
import type { Live } from '../../api/live';
import type { Cluster, ClusterRequest } from '../../api/models';
import { asProblem, type Problem } from '../../api/problem';
import { AWAY_MS, LOADING, Store, isAway, load, type Loadable } from '../../store';
import { remember, type Activity } from './activity';

export interface ClustersState {
  clusters: Loadable<readonly Cluster[]>;
  /** Their memory over the last minutes, as far as it was looked at. */
  activity: Activity;
  /** What the person asked for and is not answered yet: engine or cluster id. */
  busy: ReadonlySet<string>;
  /** Why the last action failed. */
  problem: Problem | undefined;
}

const MOVING = new Set(['starting', 'stopping']);
const REFRESH_MS = 10_000;
const MOVING_MS = 1_500;

/** The person's clusters wherever they were made, and what can be done with them. */
export class ClustersModel extends Store<ClustersState> {
  private readonly _watch: IDisposable;
  private _timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly _api: Api,
    live: Live,
    private readonly _hidden: () => boolean = () => document.hidden
  ) {
    super({ clusters: LOADING, activity: {}, busy: new Set(), problem: undefined });
    this._watch = live.watch(['cluster'], () => void this.refresh());
  }

  override dispose(): void {
    clearTimeout(this._timer);
    this._watch.dispose();
    super.dispose();
  }

  async refresh(): Promise<void> {
    const clusters = await load(this.state.clusters, async () => (await this._api.clusters()).items.filter(isShown));
    const activity = clusters.problem ? this.state.activity : remember(this.state.activity, clusters.value ?? [], Date.now());
    this.set({ clusters, activity });
    this.plan();
  }

  /** Whether it was accepted; when not, the state says why. */
  start(ask: ClusterRequest): Promise<boolean> {
    return this.act(ask.engine, () => this._api.startCluster(ask));
  }

  scale(id: string, workers: number): Promise<boolean> {
    return this.act(id, () => this._api.scaleCluster(id, { workers }));
  }

  stop(id: string): Promise<boolean> {
    return this.act(id, () => this._api.stopCluster(id));
  }

  forget(): void {
    this.set({ problem: undefined });
  }

  private async act(key: string, work: () => Promise<unknown>): Promise<boolean> {
    let done = true;
    this.set({ busy: new Set([...this.state.busy, key]), problem: undefined });
    try {
      await work();
    } catch (error) {
      done = false;
      this.set({ problem: asProblem(error) });
    }
    const busy = new Set(this.state.busy);
    busy.delete(key);
    this.set({ busy });
    await this.refresh();
    return done;
  }

  /** Memory and cost are in no event: look again while there is something that changes. */
  private plan(): void {
    clearTimeout(this._timer);
    const found = this.state.clusters.value ?? [];
    const away = isAway(this.state.clusters);
    if (!this.isDisposed && (found.length > 0 || away)) {
      const pause = away ? AWAY_MS : found.some(each => MOVING.has(each.state)) ? MOVING_MS : REFRESH_MS;
      this._timer = setTimeout(() => (this._hidden() ? this.plan() : void this.refresh()), pause);
    }
  }
}

/** Stopped clusters are history; failed ones are shown with their reason. */
export function isShown(cluster: Cluster): boolean {
  return cluster.state !== 'stopped';
}

/** The cell that binds `client` or `spark` to this cluster. */
export function clientCode(cluster: Pick<Cluster, 'engine' | 'name'>): string {
  return `%cluster use ${cluster.name}\n${cluster.engine === 'dask' ? 'client' : 'spark'}`;
}
