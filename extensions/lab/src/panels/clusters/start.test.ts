import { describe, expect, it } from 'vitest';

import type { Cluster, Me, ProfileCard } from '../../api/models';
import { made } from '../../services.fake';
import { linePoints, remember, seenSeconds } from './activity';
import { ClustersModel } from './model';
import { StartModel, room, sizes, totals } from './start-model';

const GIB = 1024 ** 3;
const card = (slug: string, cpu: number, price: number, more: Partial<ProfileCard> = {}): ProfileCard =>
  ({ slug, name: slug, cpu, memory_bytes: cpu * 2 * GIB, gpu: {}, price_per_hour: price, group: null, ...more }) as ProfileCard;
const small = card('small', 1, 0.05);
const large = card('large', 8, 0.4, { group: 'research' });
const line = (resource: string, left: number | null) => ({ resource, used: 0, limit: left, left });
const me = {
  name: 'alice',
  currency: 'EUR',
  profiles: [card('gpu', 1, 2.4, { gpu: { 'nvidia.com/gpu': 1 } }), large, small],
  quotas: [
    { account: 'user:alice', lines: [line('clusters', 1), line('cpu', 2), line('memory_bytes', null), line('servers', 0)] },
    { account: 'group:research', lines: [line('budget', 0)] }
  ]
} as unknown as Me;

describe('the form that starts a cluster', () => {
  it('offers the smallest first, and asks for the chosen size on the account that pays for it', async () => {
    const { api } = made({ 'GET core/me': me });
    const start = new StartModel(api);
    expect(start.request()).toEqual({ engine: 'dask', workers: 2 });
    await start.ask();
    expect(sizes(me).map(each => each.slug)).toEqual(['small', 'large', 'gpu']);
    expect(start.request()).toEqual({ engine: 'dask', workers: 2, profile: 'small', group: null });
    start.change({ engine: 'spark', workers: 4, profile: 'large' });
    await start.refresh();
    expect(start.request()).toEqual({ engine: 'spark', workers: 4, profile: 'large', group: 'research' });
  });

  it('opens for the engine that was asked for, and closes without forgetting what was chosen', async () => {
    const { services, api } = made({ 'GET core/me': me });
    const start = new StartModel(api);
    const asked = start.ask('spark');
    expect([start.state.asked, start.state.engine, start.isLoading]).toEqual([1, 'spark', true]);
    await asked;
    expect(start.isLoading).toBe(false);
    await start.ask();
    expect([start.state.asked, start.state.engine]).toEqual([2, 'spark']);
    start.close();
    expect([start.state.asked, start.state.engine]).toEqual([0, 'spark']);
    expect(services.asked).toEqual(['GET core/me', 'GET core/me']);
  });

  it('offers to start without a price only where there is a reason for that', async () => {
    const { api } = made({});
    const start = new StartModel(api);
    await start.ask();
    expect(start.isLoading).toBe(false);
    expect(start.state.me.problem?.message).toBe('no GET core/me');
  });

  it('says the price of all workers together', () => {
    expect(totals(small, 3, 'EUR')).toBe('3 CPU · 6 GB · 0.15 €/h');
  });

  it('says what is left and what does not fit, of the paying account only', () => {
    expect(room(me, small, 2)).toEqual({ left: ['1 cluster', '2 CPU'], short: [] });
    expect(room(me, small, 3).short).toEqual(['2 CPU']);
    expect(room(me, large, 1)).toEqual({ left: ['0.00 €'], short: ['0.00 €'] });
  });

  it('counts the GPUs of every worker', () => {
    const gpus = card('gpus', 1, 4, { gpu: { 'nvidia.com/gpu': 2 } });
    const mine = { ...me, quotas: [{ account: 'user:alice', lines: [line('gpu', 3)] }] } as unknown as Me;
    expect(totals(gpus, 2, 'EUR')).toBe('2 CPU · 4 GB · 4 GPU · 8.00 €/h');
    expect(room(mine, gpus, 1)).toEqual({ left: ['3 GPU'], short: [] });
    expect(room(mine, gpus, 2).short).toEqual(['3 GPU']);
    expect(room(mine, small, 2)).toEqual({ left: [], short: [] });
  });

  it('stays open when the start is refused', async () => {
    const refused = new Response(JSON.stringify({ code: 'quota-exceeded', detail: 'Full.' }), { status: 409 });
    const answers: Record<string, unknown> = { 'GET core/clusters': { items: [] }, 'POST core/clusters': refused };
    const { api, live } = made(answers);
    const model = new ClustersModel(api, live, () => false);
    expect(await model.start({ engine: 'dask' })).toBe(false);
    answers['POST core/clusters'] = { id: 'c1' };
    expect(await model.start({ engine: 'dask' })).toBe(true);
    model.dispose();
  });
});

describe('the activity line of a cluster', () => {
  const cluster = (id: string, memory: number | null): Cluster => ({ id, memory_used_bytes: memory }) as Cluster;

  it('keeps ten minutes of those that are there', () => {
    let seen = remember({}, [cluster('a', 1), cluster('b', 1)], 0);
    seen = remember(seen, [cluster('a', null)], 60_000);
    expect(seen).toEqual({ a: [{ time: 0, memory: 1 }] });
    seen = remember(seen, [cluster('a', 3)], 60_000);
    expect(seenSeconds(seen.a!)).toBe(60);
    expect(remember(seen, [cluster('a', 5)], 600_000)).toEqual({
      a: [{ time: 60_000, memory: 3 }, { time: 600_000, memory: 5 }]
    });
  });

  it('runs from left to right with the whole memory at the top', () => {
    const seen = [{ time: 0, memory: 0 }, { time: 300_000, memory: 8 }];
    expect(linePoints(seen, 4, 100, 20)).toBe('0.0,19.0 100.0,1.0');
    expect(linePoints([], 4, 100, 20)).toBe('');
  });
});
