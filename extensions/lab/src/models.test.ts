import { describe, expect, it, vi } from 'vitest';

import { Api, queryString } from './api/client';
import { Live, parseMessage } from './api/live';
import type { BudgetNotice } from './api/models';
import { Tracking } from './api/mlflow';
import { problemFrom } from './api/problem';
import { bytesOf, duration, inZone, money, relative, took } from './format';
import { ClustersModel, clientCode } from './panels/clusters/model';
import { DataModel, bySchema, queryFor, quoted } from './panels/data/model';
import { alignSteps, arrange, diffParams } from './panels/experiments/model';
import { JobsModel, runState } from './panels/jobs/model';
import { ScheduleModel, cronOf, fieldsOf, readValues } from './panels/jobs/schedule-model';
import { Services, made, page } from './services.fake';
import { sendSnapshot } from './snapshot';
import { StatusModel, isUrgent, statusText } from './status/model';

const NOW = Date.parse('2026-11-21T10:00:00Z');
const notice = (account: string, threshold: 80 | 100, percent: number, since = 'November'): BudgetNotice =>
  ({ account, threshold, percent, since, until: '', message: '', remedy: '' });
const table = { schema_name: 'public', name: 'flights', kind: 'table' as const, rows: 336776 };

describe('what people read', () => {
  it('writes the status line of the sketch', () => {
    const status = {
      profile: 'small',
      profile_name: 'Small',
      memory_used_bytes: 1.2 * 1024 ** 3,
      memory_limit_bytes: 2 * 1024 ** 3,
      cost: 0.31,
      currency: 'EUR',
      price_per_hour: 0.05,
      started: '2026-11-21T09:00:00Z',
      idle_stops_at: '2026-11-21T10:46:00Z',
      core_available: true,
      budgets: []
    };
    expect(statusText(status, NOW)).toBe('Small · 1.2/2 GB · 0.31 € · stops in 46 m');
    expect(isUrgent(status, NOW)).toBe(false);
    expect(isUrgent({ ...status, idle_stops_at: '2026-11-21T10:05:00Z' }, NOW)).toBe(true);
    expect(statusText({ ...status, cost: null, idle_stops_at: null }, NOW)).toBe('Small · 1.2/2 GB');
    const budgets = [notice('user:alice', 80, 84), notice('group:research', 100, 100)];
    expect(statusText({ ...status, budgets }, NOW)).toBe(
      'Small · 1.2/2 GB · 0.31 € · budget 100 % spent · stops in 46 m'
    );
    expect(isUrgent({ ...status, budgets }, NOW)).toBe(true);
  });

  it('tells of a budget once for each threshold and period', async () => {
    const budgets = [notice('user:alice', 80, 84)];
    const { api } = made({ 'GET status': { budgets } });
    const kept = new Map<string, string>();
    const browser = { getItem: (key: string) => kept.get(key) ?? null, setItem: kept.set.bind(kept) };
    const told: string[] = [];
    const opened = (): StatusModel => {
      const made = new StatusModel(api, () => false, browser);
      made.notices.connect((_, { account, threshold, since }) => void told.push(`${account} ${threshold} ${since}`));
      return made;
    };
    let model = opened();
    const poll = async (...now: BudgetNotice[]): Promise<void> => {
      budgets.splice(0, 2, ...now);
      await model.refresh();
    };
    await model.refresh();
    await poll(notice('user:alice', 80, 91));
    await poll(notice('user:alice', 100, 100), notice('group:research', 80, 80));
    await poll(notice('user:alice', 100, 100), notice('group:research', 80, 81));
    await poll();
    model.dispose();
    model = opened(); // Lab is loaded again
    await poll(notice('user:alice', 100, 100));
    await poll(notice('user:alice', 80, 80, 'December'));
    expect(told).toEqual([
      'user:alice 80 November',
      'user:alice 100 November',
      'group:research 80 November',
      'user:alice 80 December'
    ]);
    model.dispose();
  });

  it('writes times, money and zones', () => {
    expect([duration(59), duration(3600), duration(3900), duration(200000)]).toEqual(['59 s', '1 h', '1 h 5 m', '2 d']);
    expect([took(0.123), took(1.24), took(59.6), took(72), took(3900)]).toEqual(['0.12 s', '1.2 s', '1 m 0 s', '1 m 12 s', '1 h 5 m']);
    expect([relative(NOW - 180_000, NOW), relative(NOW + 7200_000, NOW)]).toEqual(['3 m ago', 'in 2 h']);
    expect([money(0.004, 'EUR'), money(2.4, 'USD'), money(0, null)]).toEqual(['0.0040 €', '2.40 $', '0.00 €']);
    expect(inZone('2026-11-22T05:00:00Z', 'Europe/Berlin')).toBe('Sun 22 Nov 06:00');
    expect(bytesOf(512 * 1024 ** 2, null)).toBe('512 MB');
  });
});

describe('the API', () => {
  it('keeps names out of the path and leaves out empty queries', async () => {
    const { services, api } = made({ 'GET data/connections/a%2Fb/tables/s/t%20t/preview': { rows: [] } });
    await api.tablePreview('a/b', 's', 't t');
    expect(services.asked).toEqual(['GET data/connections/a%2Fb/tables/s/t%20t/preview?limit=100']);
    expect(queryString({ a: undefined, b: '', c: 1 })).toBe('?c=1');
  });

  it('reads problems of ours, of MLflow, and of a proxy', () => {
    const ours = problemFrom(409, JSON.stringify({ code: 'quota-exceeded', detail: 'Full.', remedy: 'Wait.' }));
    expect([ours.code, ours.message, ours.remedy]).toEqual(['quota-exceeded', 'Full.', 'Wait.']);
    expect(problemFrom(400, '{"error_code":"INVALID","message":"Bad."}').message).toBe('Bad.');
    expect(problemFrom(503, '<html>').code).toBe('unavailable');
  });

  it('reads events in pieces', async () => {
    expect(parseMessage('id: 7\ndata: {"topic":"run"}')).toEqual({ id: '7', topic: 'run' });
    expect(parseMessage('id: 3\nevent: ready\ndata: {}')).toEqual({ id: '3', topic: undefined });
    const body = new ReadableStream({
      start(controller) {
        ['id: 1\nda', 'ta: {"topic":"run"}\n', '\nid: 2\ndata: {"topic":"cluster"}\n\n'].forEach(piece =>
          controller.enqueue(new TextEncoder().encode(piece))
        );
      }
    });
    const services = new Services({});
    services.request = async () => new Response(body);
    const live = new Live(new Api(services), page as unknown as Document);
    const runs = vi.fn();
    live.watch(['run'], runs);
    await vi.waitFor(() => expect(runs).toHaveBeenCalledTimes(2)); // once for everything at the start
    live.dispose();
  });

  it('says whether changes flow, and gathers those of a moment', async () => {
    let stream: ReadableStreamDefaultController<Uint8Array> | undefined;
    const services = new Services({});
    services.request = async () => new Response(new ReadableStream({ start: controller => void (stream = controller) }));
    const live = new Live(new Api(services), page as unknown as Document);
    const runs = vi.fn();
    live.watch(['run'], runs);
    expect(live.flows).toBe(false);
    const send = (text: string): void => stream!.enqueue(new TextEncoder().encode(text));
    await vi.waitFor(() => expect(runs).toHaveBeenCalledTimes(1));
    send(': ready\nid: 1\nevent: ready\ndata: {}\n\n');
    await vi.waitFor(() => expect(live.flows).toBe(true));
    for (let id = 2; id < 40; id++) {
      send(`id: ${id}\ndata: {"topic":"run"}\n\n`);
    }
    await vi.waitFor(() => expect(runs).toHaveBeenCalledTimes(2));
    stream!.close();
    await vi.waitFor(() => expect(live.flows).toBe(false));
    expect(runs).toHaveBeenCalledTimes(2);
    live.dispose();
  });
});

describe('Data', () => {
  it('opens a connection when asked and keeps its rows when it fails later', async () => {
    const answers: Record<string, unknown> = {
      'GET data/connections': { items: [{ name: 'warehouse', granted: true }] },
      'GET data/connections/warehouse/catalog': { tables: [table] }
    };
    const { api, live } = made(answers);
    const model = new DataModel(api, live);
    await model.refresh();
    expect(model.state.tables).toEqual({});
    await model.toggleConnection(model.state.connections.value![0]!);
    expect(model.state.tables.warehouse?.value).toHaveLength(1);
    delete answers['GET data/connections/warehouse/catalog'];
    await model.refresh();
    expect(model.state.tables.warehouse?.value).toHaveLength(1);
    expect(model.state.tables.warehouse?.problem?.status).toBe(404);
  });

  it('writes the query and quotes only what needs it', () => {
    expect(queryFor('warehouse', table)).toBe('%%sql warehouse\nSELECT *\nFROM public.flights\nLIMIT 100');
    expect([quoted('flights'), quoted('Odd name'), quoted('a"b')]).toEqual(['flights', '"Odd name"', '"a""b"']);
  });

  it('finds tables by name and by column', () => {
    const other = { ...table, name: 'planes' };
    const columns = [{ name: 'tailnum', type: 'text', nullable: true, masked: false }];
    expect(bySchema([table, other], 'FLI', () => undefined)).toEqual([['public', [table]]]);
    expect(bySchema([table, other], 'tail', each => (each === other ? columns : []))).toEqual([['public', [other]]]);
  });
});

describe('Clusters', () => {
  it('says why a start was refused and stays usable', async () => {
    const refused = new Response(JSON.stringify({ code: 'quota-exceeded', detail: 'Full.' }), { status: 409 });
    const { api, live } = made({ 'GET core/clusters': { items: [] }, 'POST core/clusters': refused });
    const model = new ClustersModel(api, live, () => false);
    await model.start({ engine: 'dask' });
    expect(model.state.problem?.code).toBe('quota-exceeded');
    expect(model.state.busy.size).toBe(0);
    model.dispose();
    expect(clientCode({ engine: 'spark', name: 's1' })).toContain('spark');
  });
});

describe('Experiments', () => {
  const run = (id: string, auc: number | undefined, depth: string) => ({
    info: { run_id: id, run_name: id, experiment_id: '1', status: 'FINISHED' as const, start_time: 1 },
    data: {
      metrics: auc === undefined ? [] : [{ key: 'auc', value: auc, timestamp: 0, step: 0 }],
      params: [{ key: 'depth', value: depth }]
    }
  });
  const runs = [run('a', 0.7, '10'), run('b', undefined, '9'), run('c', 0.9, '9')];

  it('sorts by metric with the ones that lack it last, either way', () => {
    const ids = (down: boolean) => arrange(runs, '', { by: 'metric:auc', down }).map(each => each.info.run_id);
    expect([ids(true), ids(false)]).toEqual([
      ['c', 'a', 'b'],
      ['a', 'c', 'b']
    ]);
    expect(arrange(runs, 'depth=9', { by: 'param:depth', down: false })).toHaveLength(2);
  });

  it('reads experiments, models and versions to their last page', async () => {
    const { services, api } = made({
      'GET mlflow/api/2.0/mlflow/registered-models/search': { registered_models: [{ name: 'a' }], next_page_token: 't' },
      'GET mlflow/api/2.0/mlflow/registered-models/search?max_results=200&page_token=t': {
        registered_models: [{ name: 'b' }]
      }
    });
    expect((await new Tracking(api).models()).map(each => each.name)).toEqual(['a', 'b']);
    const pages = [{ experiments: [{ name: 'a' }], next_page_token: 't' }, { experiments: [{ name: 'b' }] }];
    const one = vi.spyOn(api, 'json').mockImplementation(() => Promise.resolve(pages.shift() as never));
    expect((await new Tracking(api).experiments()).map(each => each.name)).toEqual(['a', 'b']);
    expect(one.mock.calls[1]?.[2]).toMatchObject({ max_results: 1000, page_token: 't' });
    expect(services.asked).toHaveLength(2);
  });

  it('compares params and aligns curves', () => {
    expect(diffParams(runs)).toEqual([{ key: 'depth', values: ['10', '9', '9'], differs: true }]);
    const point = (step: number, value: number) => ({ key: 'loss', value, timestamp: 0, step });
    expect(alignSteps([[point(0, 1), point(2, 0.5)], [point(1, 3)]])).toEqual([
      [0, 1, 2],
      [1, null, 0.5],
      [null, 3, null]
    ]);
  });
});

describe('Jobs', () => {
  it('says the state in words', () => {
    expect(runState({ state: 'running', cell: 6, cells: 12 })).toBe('running cell 7 of 12');
    expect(runState({ state: 'running', cell: 12, cells: 12 })).toBe('running cell 12 of 12');
    expect(runState({ state: 'leased', cell: 0, cells: 12 })).toBe('starting');
  });

  it('runs again with the parameters of a run before', async () => {
    const { services, api, live } = made({ 'GET core/jobs': { items: [] }, 'POST core/jobs/j1/runs': { id: 'r2' } });
    const model = new JobsModel(api, live, () => false);
    expect((await model.rerun('j1', { carrier: 'UA' }))?.id).toBe('r2');
    expect(services.sent[0]).toEqual({ parameters: { carrier: 'UA' } });
    model.dispose();
  });

  it('shows older runs of a job when asked', async () => {
    const { services, api, live } = made({ 'GET core/jobs': { items: [] }, 'GET core/runs': { items: [], next: null } });
    const model = new JobsModel(api, live, () => false);
    await model.toggle('j1');
    await model.older('j1');
    await model.refresh();
    const runs = services.asked.filter(each => each.startsWith('GET core/runs'));
    expect(runs.map(each => each.split('limit=')[1])).toEqual(['50', '500', '500']);
    model.dispose();
  });

  it('restores a job that was deleted, and says when the service refuses either', async () => {
    const taken = { code: 'conflict', detail: "You have another job 'late' by now.", remedy: 'Delete that one.' };
    const { services, api, live } = made({
      'GET core/jobs': { items: [] },
      'DELETE core/jobs/j1': {},
      'POST core/jobs/j1/restore': { id: 'j1' },
      'POST core/jobs/j2/restore': new Response(JSON.stringify(taken), { status: 409 })
    });
    const model = new JobsModel(api, live, () => false);
    expect(await model.remove('j1')).toBe(true);
    await model.restore('j1');
    expect(services.asked).toEqual([
      'DELETE core/jobs/j1',
      'GET core/jobs?limit=200',
      'POST core/jobs/j1/restore',
      'GET core/jobs?limit=200'
    ]);
    expect(await model.remove('j2')).toBe(false);
    expect(model.state.problem?.status).toBe(404);
    await expect(model.restore('j2')).rejects.toMatchObject({
      sentences: "You have another job 'late' by now. Delete that one."
    });
    model.dispose();
  });

  it('sends a snapshot to the jobs that follow the notebook, and to no other', async () => {
    const items = [
      { id: 'a', follow: true, notebook_path: 'x.ipynb' },
      { id: 'b', follow: false, notebook_path: 'x.ipynb' },
      { id: 'c', follow: true, notebook_path: 'y.ipynb' }
    ];
    const { services, api } = made({ 'GET core/jobs': { items }, 'PATCH core/jobs/a': {} });
    expect(await sendSnapshot(api, 'x.ipynb', { cells: [] })).toBe(1);
    expect(services.asked.filter(each => each.startsWith('PATCH'))).toEqual(['PATCH core/jobs/a']);
  });

  it('sends a snapshot to each job that follows the notebook, however many jobs there are', async () => {
    const asked = 'GET core/jobs?limit=200&notebook=x+y.ipynb';
    const { services, api } = made({
      'GET core/jobs': { items: [], next: null },
      [asked]: { items: [{ id: 'c', follow: true, notebook_path: 'x y.ipynb' }], next: 'c' },
      [`${asked}&after=c`]: { items: [{ id: 'a', follow: true, notebook_path: 'x y.ipynb' }], next: null },
      'PATCH core/jobs/a': {},
      'PATCH core/jobs/c': {}
    });
    expect(await sendSnapshot(api, 'x y.ipynb', { cells: [] })).toBe(2);
    expect(services.asked.filter(each => each.startsWith('PATCH'))).toEqual(['PATCH core/jobs/c', 'PATCH core/jobs/a']);
  });
});

describe('the Schedule form', () => {
  const schema = {
    properties: {
      carrier: { type: 'string', default: 'UA' },
      month: { type: 'integer', default: 7, maximum: 12 },
      day: { type: 'integer' },
      airports: { type: 'array', default: ['JFK'] }
    },
    required: ['day']
  };
  const fields = fieldsOf(schema);

  it('sends typed values that differ from the defaults', () => {
    const read = readValues(fields, { carrier: 'UA', month: '8', day: '3', airports: '["LGA"]' });
    expect(read).toEqual({ parameters: { month: 8, day: 3, airports: ['LGA'] }, errors: {} });
  });

  it('names each field that cannot be sent', () => {
    const read = readValues(fields, { carrier: '', month: '13', day: '', airports: '[' });
    expect(Object.keys(read.errors).sort()).toEqual(['airports', 'day', 'month']);
    expect(read.parameters.carrier).toBe('');
  });

  it('makes cron lines of presets', () => {
    expect(cronOf('daily', '06:00')).toBe('0 6 * * *');
    expect(cronOf('weekdays', '18:30')).toBe('30 18 * * 1-5');
  });

  it('creates the job, then its first run', async () => {
    const { services, api } = made({
      'POST core/notebooks/inspect': { parameters_schema: { properties: {} }, kernel: 'python3', cells: 1 },
      'GET core/me': { profiles: [{ slug: 'small', available: true, group: 'research' }], currency: 'EUR' },
      'POST core/schedules/preview': { next_firings: [], sentence: 'Every day' },
      'GET core/jobs': { items: [{ id: 'j0', name: 'early' }] },
      'POST core/jobs': { id: 'j1' },
      'POST core/jobs/j1/runs': { id: 'r1' }
    });
    const model = new ScheduleModel(api, { path: 'a/late.ipynb', content: {} }, 'Europe/Berlin');
    await model.open();
    await model.when({ repeat: true });
    expect(await model.submit()).toEqual({ job: { id: 'j1' }, run: { id: 'r1' } });
    expect(services.sent.at(-2)).toMatchObject({
      name: 'late',
      profile: 'small',
      group: 'research',
      schedule: { cron: '0 6 * * *', timezone: 'Europe/Berlin' }
    });
  });

  it('changes the job that has the name already, and leaves its schedule when it is to run once', async () => {
    const { services, api } = made({
      'POST core/notebooks/inspect': { parameters_schema: { properties: {} }, kernel: 'python3', cells: 1 },
      'GET core/me': { profiles: [{ slug: 'small', available: true }], currency: 'EUR' },
      'GET core/jobs': { items: [{ id: 'j7', name: 'late', schedule: { cron: '0 6 * * *', timezone: 'UTC' } }] },
      'PATCH core/jobs/j7': { id: 'j7' },
      'POST core/jobs/j7/runs': { id: 'r8' }
    });
    const model = new ScheduleModel(api, { path: 'late.ipynb', content: {} }, 'Europe/Berlin');
    await model.open();
    expect(await model.submit()).toEqual({ job: { id: 'j7' }, run: { id: 'r8' } });
    expect(Object.keys(services.sent.at(-2) as object).sort()).toEqual(['group', 'notebook', 'parameters', 'profile']);
  });

  it('knows the job of the name that is typed, however many jobs there are', async () => {
    const { api } = made({
      'GET core/jobs': { items: [], next: null },
      'GET core/jobs?limit=200&name=late': { items: [{ id: 'j1', name: 'late' }], next: null },
      'GET core/jobs?limit=200&name=a%26b': { items: [{ id: 'j2', name: 'a&b' }], next: null }
    });
    const model = new ScheduleModel(api, { path: 'late.ipynb', content: {} }, 'Europe/Berlin');
    await model.open();
    expect(model.existing?.id).toBe('j1');
    await model.rename('lat');
    expect(model.existing).toBeUndefined();
    await Promise.all([model.rename('late'), model.rename(' a&b ')]);
    expect(model.existing?.id).toBe('j2');
    await model.rename('');
    expect(model.existing).toBeUndefined();
  });

  it('learns of a job that was given the name meanwhile when the service refuses a second one', async () => {
    const answers: Record<string, unknown> = {
      'POST core/notebooks/inspect': { parameters_schema: { properties: {} }, kernel: 'python3', cells: 1 },
      'GET core/me': { profiles: [], currency: 'EUR' },
      'GET core/jobs': { items: [], next: null },
      'POST core/jobs': new Response(JSON.stringify({ code: 'conflict', detail: "You already have a job 'late'." }), { status: 409 })
    };
    const { api } = made(answers);
    const model = new ScheduleModel(api, { path: 'late.ipynb', content: {} }, 'Europe/Berlin');
    await model.open();
    answers['GET core/jobs'] = { items: [{ id: 'j1', name: 'late' }], next: null };
    expect(await model.submit()).toBeUndefined();
    expect(model.state.problem?.code).toBe('conflict');
    expect(model.existing?.id).toBe('j1');
  });
});
