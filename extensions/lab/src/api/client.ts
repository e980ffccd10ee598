import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

import type * as m from './models';
import { asProblem, problemFrom } from './problem';

export type Part = 'core' | 'data' | 'mlflow';
export type Query = Record<string, string | number | boolean | undefined>;

/** How many jobs come at once. */
export const JOBS_PAGE = 200;

/** The most runs that come at once. */
export const MOST_RUNS = 500;

/** `search` looks in name and path; `name` and `notebook` (a path) are whole. */
export type WhichJobs = { search?: string; name?: string; notebook?: string; after?: string };

/** The door's own answer, `labwright/status`. */
export interface ServerStatus {
  profile: string | null;
  profile_name: string | null;
  memory_used_bytes: number;
  memory_limit_bytes: number | null;
  cost: number | null;
  currency: string | null;
  price_per_hour: number | null;
  started: string;
  idle_stops_at: string | null;
  core_available: boolean;
  /** What there is to tell of the budgets that pay for this person's work. */
  budgets: m.BudgetNotice[];
}

/** Sends requests; `Api` says which. Tests give their own. */
export interface Transport {
  request(method: string, path: string, options?: { json?: unknown; signal?: AbortSignal }): Promise<Response>;
}

/** Requests to the server extension, with Jupyter's authentication and XSRF token. */
export class ServerTransport implements Transport {
  constructor(private readonly settings: ServerConnection.ISettings = ServerConnection.makeSettings()) {}

  url(path: string): string {
    return URLExt.join(this.settings.baseUrl, 'labwright') + '/' + path;
  }

  async request(
    method: string,
    path: string,
    options: { json?: unknown; signal?: AbortSignal } = {}
  ): Promise<Response> {
    const init: RequestInit = { method, signal: options.signal };
    if (options.json !== undefined) {
      init.body = JSON.stringify(options.json);
      init.headers = { 'Content-Type': 'application/json' };
    }
    return ServerConnection.makeRequest(this.url(path), init, this.settings);
  }
}

/** Every call that the panels make. Failures are `Problem`s. */
export class Api {
  constructor(readonly transport: Transport) {}

  status = (): Promise<ServerStatus> => this.json('GET', 'status');
  kernelDeath = (id: string): Promise<{ reason: string | null }> => this.json('GET', `kernels/${seg(id)}/death`);
  examples = (): Promise<{ items: string[] }> => this.json('GET', 'examples');
  example = (name: string): Promise<Record<string, unknown>> => this.json('GET', `examples/${seg(name)}`);
  me = (): Promise<m.Me> => this.core('GET', 'me');

  /** The newest of them. */
  jobs = (which: WhichJobs = {}): Promise<m.JobPage> =>
    this.core('GET', 'jobs', undefined, { limit: JOBS_PAGE, ...which });
  job = (id: string): Promise<m.Job> => this.core('GET', `jobs/${seg(id)}`);
  createJob = (ask: m.JobRequest): Promise<m.Job> => this.core('POST', 'jobs', ask);
  updateJob = (id: string, change: m.JobUpdate): Promise<m.Job> => this.core('PATCH', `jobs/${seg(id)}`, change);
  deleteJob = (id: string): Promise<void> => this.core('DELETE', `jobs/${seg(id)}`);
  restoreJob = (id: string): Promise<m.Job> => this.core('POST', `jobs/${seg(id)}/restore`);
  startRun = (job: string, ask: m.RunRequest): Promise<m.Run> => this.core('POST', `jobs/${seg(job)}/runs`, ask);
  /** The newest of them. */
  runs = (job: string, limit: number): Promise<m.RunPage> => this.core('GET', 'runs', undefined, { job, limit });
  run = (id: string): Promise<m.Run> => this.core('GET', `runs/${seg(id)}`);
  cancelRun = (id: string): Promise<m.Run> => this.core('POST', `runs/${seg(id)}/cancel`);
  runNotebook = (id: string): Promise<Record<string, unknown>> => this.core('GET', `runs/${seg(id)}/notebook`);
  runSource = (id: string): Promise<Record<string, unknown>> => this.core('GET', `runs/${seg(id)}/source`);
  inspect = (content: Record<string, unknown>): Promise<m.Inspection> =>
    this.core('POST', 'notebooks/inspect', { content });
  preview = (schedule: m.Schedule): Promise<m.SchedulePreview> => this.core('POST', 'schedules/preview', schedule);

  clusters = (): Promise<m.ClusterPage> => this.core('GET', 'clusters');
  startCluster = (ask: m.ClusterRequest): Promise<m.Cluster> => this.core('POST', 'clusters', ask);
  scaleCluster = (id: string, ask: m.ClusterScale): Promise<m.Cluster> =>
    this.core('POST', `clusters/${seg(id)}/scale`, ask);
  stopCluster = (id: string): Promise<void> => this.core('DELETE', `clusters/${seg(id)}`);

  connections = (): Promise<m.ConnectionPage> => this.data('GET', 'connections');
  catalog = (connection: string, search?: string): Promise<m.Catalog> =>
    this.data('GET', `connections/${seg(connection)}/catalog`, undefined, { search });
  columns = (connection: string, table: m.Table): Promise<m.TableColumns> =>
    this.data('GET', `connections/${seg(connection)}/tables/${seg(table.schema_name)}/${seg(table.name)}`);
  columnProfile = (connection: string, table: m.Table, column: string): Promise<m.ColumnProfile> =>
    this.data(
      'GET',
      `connections/${seg(connection)}/tables/${seg(table.schema_name)}/${seg(table.name)}/columns/${seg(column)}/profile`
    );
  tablePreview = (connection: string, schema: string, table: string): Promise<m.Preview> =>
    this.data('GET', `connections/${seg(connection)}/tables/${seg(schema)}/${seg(table)}/preview`, undefined, {
      limit: 100
    });

  /** As many as there are, page by page. */
  async everyJob(which: WhichJobs): Promise<m.Job[]> {
    const found: m.Job[] = [];
    let after: string | undefined;
    do {
      const page = await this.jobs({ ...which, after });
      found.push(...page.items);
      after = page.next ?? undefined;
    } while (after !== undefined);
    return found;
  }

  async runLog(id: string): Promise<string> {
    return (await this.send('GET', `core/runs/${seg(id)}/log`)).text();
  }

  core<T>(method: string, path: string, json?: unknown, query?: Query): Promise<T> {
    return this.json(method, `core/${path}`, json, query);
  }

  data<T>(method: string, path: string, json?: unknown, query?: Query): Promise<T> {
    return this.json(method, `data/${path}`, json, query);
  }

  async json<T>(method: string, path: string, json?: unknown, query?: Query): Promise<T> {
    const text = await (await this.send(method, path, json, query)).text();
    return (text === '' ? undefined : JSON.parse(text)) as T;
  }

  async send(method: string, path: string, json?: unknown, query?: Query, signal?: AbortSignal): Promise<Response> {
    let response: Response;
    try {
      response = await this.transport.request(method, path + queryString(query), { json, signal });
    } catch (error) {
      throw signal?.aborted ? error : asProblem(error);
    }
    if (!response.ok) {
      throw problemFrom(response.status, await response.text());
    }
    return response;
  }
}

export function queryString(query: Query = {}): string {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== '');
  return given.length === 0 ? '' : '?' + new URLSearchParams(given.map(([key, value]) => [key, String(value)]));
}

/** One segment of a path. */
export const seg = encodeURIComponent;
