// Made by scripts/models.py from labwright.api. Do not edit: run `make lab-models`.

export interface Ask {
  cpu: number;
  memory_bytes: number;
  gpu?: number;
  count?: number;
  price_per_hour?: number;
}

export interface AuditPage {
  items: AuditRow[];
  /** Whether the hash chain holds over the whole trail. */
  intact: boolean;
  next: number | null;
}

export interface AuditRow {
  service: string;
  sequence: number;
  time: string;
  who: string;
  action: string;
  what: string;
  details: Record<string, unknown>;
  /** SHA-256 over the previous row's digest and this row. */
  digest: string;
}

export interface Bin {
  start: number;
  end: number;
  rows: number;
}

export interface BudgetNotice {
  account: string;
  /** The percentage that was reached. */
  threshold: 80 | 100;
  /** How much is spent, in whole percent. */
  percent: number;
  /** When the budget's day, week or month began. */
  since: string;
  /** When the budget begins anew. */
  until: string;
  message: string;
  remedy: string;
}

export interface Catalog {
  connection: string;
  tables: Table[];
}

export interface CellError {
  /** Index of the cell in the source notebook, from 0. */
  cell: number;
  name: string;
  message: string;
  /** Plain text, no ANSI codes. */
  traceback: string;
}

export interface Cluster {
  id: string;
  name: string;
  engine: 'dask' | 'spark';
  owner: string;
  state: 'starting' | 'running' | 'stopping' | 'stopped' | 'failed';
  /** Ready now. */
  workers: number;
  workers_wanted: number;
  cpu: number;
  /** Reserved. */
  memory_bytes: number;
  memory_used_bytes: number | null;
  price_per_hour: number;
  /** So far. */
  cost: number;
  /** Of price and cost. */
  currency: string;
  /** Path under the proxy's address, for a browser. */
  dashboard_url: string | null;
  reason: string | null;
  /** Size of one worker. */
  profile: string | null;
  created: string;
  idle_stops_at: string | null;
}

export interface ClusterAddress {
  engine: 'dask' | 'spark';
  /** Dask: the gateway's URL. Spark: sc://host:port/;token=… */
  address: string;
  proxy_address: string | null;
  cluster_name: string;
}

export interface ClusterPage {
  items: Cluster[];
}

export interface ClusterRequest {
  engine: 'dask' | 'spark';
  /** Chosen for you when absent. */
  name?: string | null;
  /** Dask: worker processes. Spark: local threads. */
  workers?: number;
  /** The group that is billed; yourself when absent. */
  group?: string | null;
  /** Size of one worker: a slug of workbench.yaml; the smallest. */
  profile?: string | null;
}

export interface ClusterScale {
  workers: number;
}

export interface Column {
  name: string;
  type: string;
  nullable: boolean;
  masked: boolean;
}

export interface ColumnProfile {
  rows: number;
  nulls: number;
  /** Values that differ. */
  distinct: number | null;
  least: unknown;
  greatest: unknown;
  mean: number | null;
  /** The most common values, the most common first. */
  common: CommonValue[];
  /** Of numbers: how they lie between least and greatest. */
  bins: Bin[];
}

export interface CommonValue {
  value: unknown;
  rows: number;
}

export interface Connection {
  name: string;
  driver: string;
  title: string;
  description: string;
  state: 'ready' | 'unreachable' | 'starting';
  reason: string | null;
  /** Whether the caller may read anything in it. */
  granted: boolean;
  /** Stands in workbench.yaml, so it is read-only here. */
  declared: boolean;
}

export interface ConnectionPage {
  items: Connection[];
}

export interface ConnectionRequest {
  name: string;
  driver: string;
  options?: Record<string, string>;
  secret?: string | null;
  description?: string;
}

export interface Event {
  sequence: number;
  topic: 'job' | 'run' | 'cluster' | 'reservation' | 'connection' | 'experiment' | 'model';
  /** Id of the job, run, cluster … that changed. */
  key: string;
  action: 'created' | 'updated' | 'deleted' | 'restored';
  time: string;
}

export interface Grant {
  group: string;
  connection: string;
  schemas: string[];
  tables: string[];
  until: string | null;
}

export interface InspectRequest {
  content: Record<string, unknown>;
}

export interface Inspection {
  parameters_schema: Record<string, unknown>;
  kernel: string;
  /** Code cells. */
  cells: number;
}

export interface Job {
  id: string;
  name: string;
  owner: string;
  notebook_path: string;
  source_digest: string;
  follow: boolean;
  parameters: Record<string, unknown>;
  /** JSON Schema of the notebook's parameters. */
  parameters_schema: Record<string, unknown>;
  profile: string;
  group: string | null;
  schedule: Schedule | null;
  /** The next three, UTC. */
  next_firings: string[];
  policy: Policy;
  paused: boolean;
  created: string;
  updated: string;
  /** Why the schedule stands still, where it does. */
  reason: string | null;
  last_run: Run | null;
}

export interface JobPage {
  items: Job[];
  next: string | null;
}

export interface JobRequest {
  name: string;
  notebook: NotebookInput;
  /** Take a new snapshot each time the file is saved in Lab. */
  follow?: boolean;
  parameters?: Record<string, unknown>;
  /** Slug of a profile in workbench.yaml. */
  profile?: string;
  /** The group that is billed; the owner himself when absent. */
  group?: string | null;
  schedule?: Schedule | null;
  policy?: Policy;
}

export interface JobUpdate {
  name?: string | null;
  notebook?: NotebookInput | null;
  /** Take a new snapshot each time the file is saved in Lab, or no longer; the one it has stays. */
  follow?: boolean | null;
  parameters?: Record<string, unknown> | null;
  profile?: string | null;
  /** The group that is billed from now on; null: the owner himself. Absent: as it was. */
  group?: string | null;
  schedule?: Schedule | null;
  remove_schedule?: boolean;
  policy?: Policy | null;
  paused?: boolean | null;
}

export interface Me {
  name: string;
  groups: string[];
  admin: boolean;
  currency: string;
  quotas: Quota[];
  profiles: ProfileCard[];
  running: Reservation[];
}

export interface NotebookInput {
  /** Relative to the owner's home; the run's working directory is its folder. */
  path: string;
  /** The notebook's JSON, nbformat 4. */
  content: Record<string, unknown>;
}

export interface Origin {
  notebook?: string | null;
  run_id?: string | null;
}

export interface Policy {
  timeout_seconds?: number;
  retries?: number;
  overlap?: 'skip' | 'queue' | 'cancel-old';
  /** What to do with slots missed while down. */
  misfire?: 'skip' | 'once' | 'all';
  keep_runs?: number;
}

export interface Preview {
  table: Table;
  columns: Column[];
  /** At most the limit; values as JSON, decimals and dates as text. */
  rows: unknown[][];
  seconds: number;
}

export interface ProfileCard {
  slug: string;
  name: string;
  description: string;
  cpu: number;
  memory_bytes: number;
  gpu: Record<string, number>;
  image: string;
  price_per_hour: number;
  options: Record<string, string[]>;
  /** Your group that pays for it; you when absent. */
  group: string | null;
  available: boolean;
  /** Why it cannot be started now, and what would fit. */
  reason: string | null;
}

export interface QueryRequest {
  sql: string;
  /** Bound to :name, never pasted. */
  parameters?: Record<string, unknown>;
  /** Stop after so many rows. */
  limit?: number | null;
  origin?: Origin;
}

export interface Quota {
  account: string;
  lines: QuotaLine[];
  /** From 80 % of the account's budget on. */
  notice: BudgetNotice | null;
}

export interface QuotaLine {
  resource: string;
  used: number;
  /** None: no limit. */
  limit: number | null;
  left: number | null;
}

export interface Renewal {
  key: string;
  ttl_seconds: number;
}

export interface Reservation {
  id: string;
  user: string;
  /** Who is billed: 'user:alice' or 'group:research'. */
  account: string;
  kind: 'server' | 'run' | 'cluster';
  key: string;
  ask: Ask;
  profile: string | null;
  created: string;
  expires: string;
  released: string | null;
  cost: number;
}

export interface ReservationKey {
  key: string;
}

export interface ReservationRequest {
  user: string;
  group?: string | null;
  kind: 'server' | 'run' | 'cluster';
  /** Names the thing: asking twice for one key reserves once. */
  key: string;
  ask: Ask;
  ttl_seconds?: number;
  profile?: string | null;
}

export interface Run {
  id: string;
  /** Counts the job's runs from 1. */
  number: number;
  job_id: string;
  job_name: string;
  owner: string;
  state: 'queued' | 'leased' | 'running' | 'succeeded' | 'failed' | 'timed-out' | 'cancelled' | 'lost';
  trigger: 'schedule' | 'manual';
  /** The firing it stands for. */
  slot: string | null;
  attempt: number;
  parameters: Record<string, unknown>;
  profile: string;
  notebook_path: string;
  source_digest: string;
  /** Cells finished so far. */
  cell: number;
  cells: number;
  error: CellError | null;
  /** Why it waits or ended so, and what to do. */
  reason: string | null;
  created: string;
  started: string | null;
  finished: string | null;
  cpu_seconds: number | null;
  peak_memory_bytes: number | null;
  cost: number;
  mlflow_run_id: string | null;
  mlflow_experiment_id: string | null;
}

export interface RunPage {
  items: Run[];
  next: string | null;
}

export interface RunRequest {
  /** Changes to the job's own parameters. */
  parameters?: Record<string, unknown>;
}

export interface Schedule {
  /** Five fields: minute hour day month weekday. */
  cron: string;
  /** An IANA zone. */
  timezone: string;
}

export interface SchedulePreview {
  next_firings: string[];
  sentence: string;
}

export interface Table {
  schema_name: string;
  name: string;
  kind: 'table' | 'view' | 'file';
  /** Estimated by the source. */
  rows: number | null;
}

export interface TableColumns {
  table: Table;
  columns: Column[];
}

export interface TrackingLink {
  experiment_id: string;
  run_id: string;
}

export interface UsageReport {
  since: string;
  until: string;
  currency: string;
  rows: UsageRow[];
  running: Reservation[];
}

export interface UsageRow {
  user: string;
  account: string;
  kind: 'server' | 'run' | 'cluster';
  profile: string | null;
  hours: number;
  cpu_hours: number;
  gpu_hours: number;
  cost: number;
}
