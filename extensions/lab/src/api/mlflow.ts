import type { Api, Query } from './client';

/** MLflow's REST API through the door: what the Experiments panel needs of it. */
export interface Experiment {
  experiment_id: string;
  name: string;
  lifecycle_stage: string;
  last_update_time?: number;
  tags?: Tag[];
}

export interface Tag {
  key: string;
  value: string;
}

export interface Metric {
  key: string;
  value: number;
  timestamp: number;
  step: number;
}

export interface TrackedRun {
  info: {
    run_id: string;
    run_name: string;
    experiment_id: string;
    status: 'RUNNING' | 'SCHEDULED' | 'FINISHED' | 'FAILED' | 'KILLED';
    start_time: number;
    end_time?: number;
    user_id?: string;
  };
  data: { metrics?: Metric[]; params?: Tag[]; tags?: Tag[] };
}

export interface ModelVersion {
  name: string;
  version: string;
  run_id?: string;
  status: string;
  creation_timestamp: number;
  user_id?: string;
}

export interface RegisteredModel {
  name: string;
  description?: string;
  aliases?: { alias: string; version: string }[];
  latest_versions?: ModelVersion[];
  last_updated_timestamp: number;
}

/** Whose experiments: one's own, or a group's. */
export interface Workspace {
  name: string;
  description: string;
}

interface Page {
  next_page_token?: string;
}

/** How many runs of an experiment are shown. */
export const MOST_RUNS = 500;

/** How many points of a curve are shown: as many as MLflow gives of one. */
export const MOST_POINTS = 2500;

const BASE = 'mlflow/api/2.0/mlflow';

export class Tracking {
  constructor(
    private readonly _api: Api,
    /** All below is of this workspace; one's own when it is not said. */
    readonly workspace?: string
  ) {}

  /** The same of another workspace. */
  of(workspace: string | undefined): Tracking {
    return new Tracking(this._api, workspace);
  }

  /** One's own first. */
  async workspaces(): Promise<Workspace[]> {
    return (await this._api.json<{ workspaces: Workspace[] }>('GET', 'mlflow/api/3.0/mlflow/workspaces')).workspaces;
  }

  async experiments(): Promise<Experiment[]> {
    const ask = { max_results: 1000, view_type: 'ACTIVE_ONLY', order_by: ['last_update_time DESC'] };
    return everyOne(async page_token => {
      const page = await this.post<Page & { experiments?: Experiment[] }>('experiments/search', { ...ask, page_token });
      return [page.experiments, page];
    });
  }

  /** The newest ones. */
  async runs(experiment: string): Promise<TrackedRun[]> {
    const ask = { experiment_ids: [experiment], max_results: MOST_RUNS, order_by: ['attributes.start_time DESC'] };
    return (await this.post<{ runs?: TrackedRun[] }>('runs/search', ask)).runs ?? [];
  }

  /** Those of these ids, in this order, however many are newer; the ones that are gone are left out. */
  async runsOf(experiment: string, ids: readonly string[]): Promise<TrackedRun[]> {
    const filter = `attributes.run_id IN (${ids.map(id => `'${id}'`).join(',')})`;
    const ask = { experiment_ids: [experiment], filter, max_results: MOST_RUNS };
    const found = await everyOne(async page_token => {
      const page = await this.post<Page & { runs?: TrackedRun[] }>('runs/search', { ...ask, page_token });
      return [page.runs, page];
    });
    const known = new Map(found.map(run => [run.info.run_id, run]));
    return ids.flatMap(id => known.get(id) ?? []);
  }

  /** All points, or `MOST_POINTS` of them evenly over all steps, with the first and the last. */
  async history(run: string, metric: string): Promise<Metric[]> {
    const query = { run_ids: run, metric_key: metric, max_results: MOST_POINTS, workspace: this.workspace };
    const path = `${BASE}/metrics/get-history-bulk-interval`;
    return (await this._api.json<{ metrics?: Metric[] }>('GET', path, undefined, query)).metrics ?? [];
  }

  async models(): Promise<RegisteredModel[]> {
    const query = { max_results: 200, workspace: this.workspace };
    return everyOne(async page_token => {
      const page = await this.get<{ registered_models?: RegisteredModel[] }>('registered-models', { ...query, page_token });
      return [page.registered_models, page];
    });
  }

  /** Those of all models. */
  async versions(): Promise<ModelVersion[]> {
    const query = { max_results: 1000, workspace: this.workspace };
    return everyOne(async page_token => {
      const page = await this.get<{ model_versions?: ModelVersion[] }>('model-versions', { ...query, page_token });
      return [page.model_versions, page];
    });
  }

  private get<T>(what: string, query: Query): Promise<T & Page> {
    return this._api.json('GET', `${BASE}/${what}/search`, undefined, query);
  }

  private post<T>(path: string, ask: unknown): Promise<T> {
    return this._api.json('POST', `${BASE}/${path}`, ask, { workspace: this.workspace });
  }
}

/** What a search finds, page by page; `ask` gets the token of each but the first. */
async function everyOne<T>(ask: (token: string | undefined) => Promise<[T[] | undefined, Page]>): Promise<T[]> {
  const found: T[] = [];
  let token: string | undefined;
  do {
    const [items, page] = await ask(token);
    found.push(...(items ?? []));
    token = page.next_page_token;
  } while (token);
  return found;
}
