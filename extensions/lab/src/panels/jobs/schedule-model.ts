import type { Api } from '../../api/client';
import type { Inspection, Job, JobRequest, Me, ProfileCard, Run, SchedulePreview } from '../../api/models';
import { asProblem, type Problem } from '../../api/problem';
import { LOADING, Store, load, type Loadable } from '../../store';

/** One declared parameter of the notebook, as its JSON Schema says. */
export interface Field {
  name: string;
  type: 'string' | 'integer' | 'number' | 'boolean' | 'json';
  title: string;
  description: string;
  choices: readonly unknown[] | undefined;
  initial: unknown;
  required: boolean;
  minimum?: number;
  maximum?: number;
}

export const PRESETS = ['hourly', 'daily', 'weekdays', 'weekly', 'monthly', 'custom'] as const;
export type Preset = (typeof PRESETS)[number];

export interface ScheduleState {
  inspection: Loadable<Inspection>;
  me: Loadable<Me>;
  /** The person's job that had the chosen name when it was last looked up. */
  named: Job | undefined;
  fields: readonly Field[];
  name: string;
  values: Readonly<Record<string, string | boolean>>;
  profile: string;
  runNow: boolean;
  repeat: boolean;
  preset: Preset;
  time: string;
  cron: string;
  timezone: string;
  /** What was chosen; undefined: as the job of that name has it. */
  follow: boolean | undefined;
  preview: Loadable<SchedulePreview>;
  sending: boolean;
  problem: Problem | undefined;
  /** Why a field cannot be sent, by name. */
  errors: Readonly<Record<string, string>>;
}

export interface NotebookFile {
  path: string;
  content: Record<string, unknown>;
}

/** The form that turns a notebook into a job. */
export class ScheduleModel extends Store<ScheduleState> {
  private _asked = 0;

  constructor(
    private readonly _api: Api,
    readonly notebook: NotebookFile,
    timezone: string,
    profile = ''
  ) {
    super({
      inspection: LOADING,
      me: LOADING,
      named: undefined,
      fields: [],
      name: nameOf(notebook.path),
      values: {},
      profile,
      runNow: true,
      repeat: false,
      preset: 'daily',
      time: '06:00',
      cron: '0 6 * * *',
      timezone,
      follow: undefined,
      preview: LOADING,
      sending: false,
      problem: undefined,
      errors: {}
    });
  }

  async open(): Promise<void> {
    const [inspection, me] = await Promise.all([
      load(this.state.inspection, () => this._api.inspect(this.notebook.content)),
      load(this.state.me, () => this._api.me()),
      this.lookUp()
    ]);
    const fields = fieldsOf(inspection.value?.parameters_schema ?? {});
    const values = Object.fromEntries(fields.map(field => [field.name, asText(field)]));
    const cards = me.value?.profiles ?? [];
    const known = cards.find(card => card.slug === this.state.profile && card.available);
    const profile = (known ?? cards.find(card => card.available))?.slug ?? this.state.profile;
    this.set({ inspection, me, fields, values: { ...values, ...this.state.values }, profile });
  }

  /** The person's own job that has the chosen name: sending changes it instead of making another one. */
  get existing(): Job | undefined {
    const { name, named } = this.state;
    return named?.name === name.trim() ? named : undefined;
  }

  /** Whether each save in Lab becomes what runs next. */
  get follows(): boolean {
    return this.state.follow ?? this.existing?.follow ?? false;
  }

  /** There is something to send: a run, a schedule, or another choice for the job that is there. */
  get says(): boolean {
    const { runNow, repeat } = this.state;
    return runNow || repeat || (this.existing !== undefined && this.follows !== this.existing.follow);
  }

  async rename(name: string): Promise<void> {
    this.set({ name, problem: undefined });
    await this.lookUp();
  }

  private async lookUp(): Promise<void> {
    const name = this.state.name.trim();
    if (name === '') {
      return;
    }
    const found = await load<Job | undefined>(LOADING, async () => (await this._api.jobs({ name })).items[0]);
    if (name === this.state.name.trim()) {
      this.set({ named: found.value });
    }
  }

  change(change: Partial<Pick<ScheduleState, 'profile' | 'runNow' | 'follow'>>): void {
    this.set({ ...change, problem: undefined });
  }

  setValue(name: string, value: string | boolean): void {
    const errors = { ...this.state.errors };
    delete errors[name];
    this.set({ values: { ...this.state.values, [name]: value }, errors, problem: undefined });
  }

  /** Change when it fires, and ask for the next three firings. */
  async when(change: Partial<Pick<ScheduleState, 'repeat' | 'preset' | 'time' | 'cron' | 'timezone'>>): Promise<void> {
    const next = { ...this.state, ...change };
    const cron = next.preset === 'custom' ? next.cron : cronOf(next.preset, next.time);
    this.set({ ...change, cron, problem: undefined });
    if (!next.repeat) {
      return;
    }
    const asked = (this._asked += 1);
    const preview = await load({ ...this.state.preview }, () => this._api.preview({ cron, timezone: next.timezone }));
    if (asked === this._asked) {
      this.set({ preview: preview.problem ? { value: undefined, problem: preview.problem } : preview });
    }
  }

  /** Send it; the job and its first run, or nothing when something is wrong (then the state says what). */
  async submit(): Promise<{ job: Job; run: Run | undefined } | undefined> {
    const read = readValues(this.state.fields, this.state.values);
    if (Object.keys(read.errors).length > 0) {
      this.set({ errors: read.errors });
      return undefined;
    }
    this.set({ sending: true, problem: undefined });
    try {
      const job = await this.place(this.request(read.parameters));
      const run = this.state.runNow ? await this._api.startRun(job.id, {}) : undefined;
      this.set({ sending: false });
      return { job, run };
    } catch (error) {
      const problem = asProblem(error);
      const at = problem.details.parameter;
      const errors = typeof at === 'string' ? { [at]: problem.message } : {};
      this.set({ sending: false, problem, errors });
      await this.lookUp(); // a job of that name may have been made or deleted elsewhere
      return undefined;
    }
  }

  private place(request: JobRequest): Promise<Job> {
    const { existing } = this;
    if (existing === undefined) {
      return this._api.createJob(request);
    }
    const { notebook, parameters, profile, group, schedule, follow } = request;
    // Running it once leaves its schedule as it is.
    const changes = { notebook, parameters, profile, group, ...(schedule ? { schedule } : {}) };
    // Nor does what was not touched change what was chosen elsewhere meanwhile.
    const chosen = this.state.follow === undefined ? {} : { follow };
    return this._api.updateJob(existing.id, { ...changes, ...chosen });
  }

  request(parameters: Record<string, unknown>): JobRequest {
    const { name, profile, repeat, cron, timezone } = this.state;
    const card = this.state.me.value?.profiles.find(each => each.slug === profile);
    return {
      name: name.trim(),
      notebook: this.notebook,
      follow: this.follows,
      parameters,
      profile,
      // Whose quota the card was judged by; of a card that could not be had nothing is said.
      group: card && (card.group ?? null),
      schedule: repeat ? { cron, timezone } : null
    };
  }
}

/** The price of a run as long as an hour, for the profile's card. */
export function fits(card: ProfileCard): string | undefined {
  return card.available ? undefined : (card.reason ?? 'Not available now.');
}

export function nameOf(path: string): string {
  return (path.split('/').pop() ?? path).replace(/\.ipynb$/, '');
}

export function fieldsOf(schema: Record<string, unknown>): Field[] {
  const properties = (schema.properties ?? {}) as Record<string, Record<string, unknown>>;
  const required = new Set(Array.isArray(schema.required) ? (schema.required as string[]) : []);
  return Object.entries(properties).map(([name, property]) => ({
    name,
    type: fieldType(property),
    title: typeof property.title === 'string' ? property.title : name,
    description: typeof property.description === 'string' ? property.description : '',
    choices: Array.isArray(property.enum) ? property.enum : undefined,
    initial: property.default,
    required: required.has(name) && property.default === undefined,
    minimum: typeof property.minimum === 'number' ? property.minimum : undefined,
    maximum: typeof property.maximum === 'number' ? property.maximum : undefined
  }));
}

function fieldType(property: Record<string, unknown>): Field['type'] {
  const type = property.type;
  return type === 'string' || type === 'integer' || type === 'number' || type === 'boolean' ? type : 'json';
}

function asText(field: Field): string | boolean {
  if (field.type === 'boolean') {
    return field.initial === true;
  }
  if (field.initial === undefined || (field.initial === null && field.type !== 'json')) {
    return '';
  }
  return field.type === 'string' ? String(field.initial) : JSON.stringify(field.initial);
}

export interface Read {
  parameters: Record<string, unknown>;
  errors: Record<string, string>;
}

/** The typed values of the form; what equals the notebook's own default is not sent. */
export function readValues(fields: readonly Field[], values: Readonly<Record<string, string | boolean>>): Read {
  const read: Read = { parameters: {}, errors: {} };
  for (const field of fields) {
    const given = values[field.name] ?? '';
    if (given === '' && field.type !== 'string') {
      if (field.required) {
        read.errors[field.name] = 'This one has no default: give a value.';
      }
      continue;
    }
    const { value, error } = parse(field, given);
    if (error !== undefined) {
      read.errors[field.name] = error;
    } else if (JSON.stringify(value) !== JSON.stringify(field.initial)) {
      read.parameters[field.name] = value;
    }
  }
  return read;
}

function parse(field: Field, given: string | boolean): { value?: unknown; error?: string } {
  if (typeof given === 'boolean') {
    return { value: given };
  }
  if (field.type === 'string') {
    return { value: given };
  }
  if (field.type === 'json') {
    try {
      return { value: JSON.parse(given) };
    } catch {
      return { error: 'This is not JSON, such as [1, 2] or {"a": 1}.' };
    }
  }
  const number = Number(given);
  if (!Number.isFinite(number) || (field.type === 'integer' && !Number.isInteger(number))) {
    return { error: field.type === 'integer' ? 'This takes a whole number.' : 'This takes a number.' };
  }
  if (field.minimum !== undefined && number < field.minimum) {
    return { error: `At least ${field.minimum}.` };
  }
  if (field.maximum !== undefined && number > field.maximum) {
    return { error: `At most ${field.maximum}.` };
  }
  return { value: number };
}

/** The cron line of a preset at a local time 'HH:MM'. */
export function cronOf(preset: Exclude<Preset, 'custom'>, time: string): string {
  const [hour = '6', minute = '0'] = time.split(':').map(part => String(Number(part)));
  return {
    hourly: `${minute} * * * *`,
    daily: `${minute} ${hour} * * *`,
    weekdays: `${minute} ${hour} * * 1-5`,
    weekly: `${minute} ${hour} * * 1`,
    monthly: `${minute} ${hour} 1 * *`
  }[preset];
}
