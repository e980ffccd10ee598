import type { Signal } from '@lumino/signaling';
import { describe, expect, it, vi } from 'vitest';

import type { Live, Topic } from '../../api/live';
import { MOST_POINTS, Tracking } from '../../api/mlflow';
import { made } from '../../services.fake';
import { ExperimentsModel, areSampled } from './model';

const BASE = 'mlflow/api/2.0/mlflow';
const version = (name: string, number: number) => ({ name, version: String(number), status: 'READY', creation_timestamp: 1 });

function opened() {
  const answers: Record<string, unknown> = {
    'GET mlflow/api/3.0/mlflow/workspaces': { workspaces: [{ name: 'user-alice', description: 'alice' }] },
    [`POST ${BASE}/experiments/search`]: { experiments: [{ experiment_id: '1', name: 'late' }] },
    [`POST ${BASE}/runs/search`]: {},
    [`GET ${BASE}/registered-models/search`]: { registered_models: [{ name: 'a' }, { name: 'b' }, { name: 'none' }] },
    [`GET ${BASE}/model-versions/search`]: { model_versions: [] },
    [`GET ${BASE}/model-versions/search?max_results=1000`]: {
      model_versions: [version('b', 1), version('a', 9)],
      next_page_token: 't'
    },
    [`GET ${BASE}/model-versions/search?max_results=1000&page_token=t`]: { model_versions: [version('a', 10)] }
  };
  const { services, api, live } = made(answers);
  const clock = { now: 0 };
  const panel = { isHidden: false };
  const model = new ExperimentsModel(new Tracking(api), live, () => panel.isHidden, () => clock.now);
  const asked = (what: string): number => services.asked.filter(each => each.includes(`/${what}/search`)).length;
  const tell = (topic: Topic): void => (live.changed as Signal<Live, Topic>).emit(topic);
  return { answers, clock, panel, model, asked, tell };
}

describe('experiments', () => {
  it('are not asked for while nobody sees them, by time or by changes, and are again from then on', async () => {
    vi.useFakeTimers();
    const { panel, model, asked, tell } = opened();
    await model.refresh();
    panel.isHidden = true;
    tell('run');
    await vi.advanceTimersByTimeAsync(60_000);
    expect(asked('experiments')).toBe(1);
    panel.isHidden = false;
    await model.refresh();
    await vi.advanceTimersByTimeAsync(6_000);
    expect(asked('experiments')).toBe(3);
    model.dispose();
    vi.useRealTimers();
  });
});

describe('registered models', () => {
  it('come with their versions in one search, the newest first', async () => {
    const { model, asked } = opened();
    await model.refresh();
    const rows = model.state.models.value!.map(row => [row.model.name, row.versions.map(each => each.version)]);
    expect(rows).toEqual([
      ['a', ['10', '9']],
      ['b', ['1']],
      ['none', []]
    ]);
    expect([asked('registered-models'), asked('model-versions')]).toEqual([1, 2]); // of two pages
    model.dispose();
  });

  it('are looked up once a minute, and at once when one changed or the person asks', async () => {
    const { clock, model, asked, tell } = opened();
    await model.refresh();
    clock.now = 59_000;
    await model.refresh();
    tell('experiment');
    await vi.waitFor(() => expect(asked('experiments')).toBe(3));
    expect(asked('registered-models')).toBe(1);
    clock.now = 60_000;
    await model.refresh();
    expect(asked('registered-models')).toBe(2);
    tell('model');
    await vi.waitFor(() => expect(asked('registered-models')).toBe(3));
    await model.reload();
    expect(asked('registered-models')).toBe(4);
    await model.share('group-research');
    expect(asked('registered-models')).toBe(5);
    model.dispose();
  });

  it('are not looked up while the runs of an experiment are shown instead', async () => {
    const { model, asked, tell } = opened();
    await model.choose('1');
    tell('model');
    await vi.waitFor(() => expect(asked('experiments')).toBe(2));
    expect(asked('registered-models')).toBe(0);
    await model.choose(undefined);
    expect(asked('registered-models')).toBe(1);
    model.dispose();
  });

  it('are looked up again at the next look when they could not be had', async () => {
    const { answers, model } = opened();
    const { [`GET ${BASE}/registered-models/search`]: found, ...others } = answers;
    delete answers[`GET ${BASE}/registered-models/search`];
    await model.refresh();
    expect(model.state.models.problem?.status).toBe(404);
    Object.assign(answers, others, { [`GET ${BASE}/registered-models/search`]: found });
    await model.refresh();
    expect(model.state.models.value).toHaveLength(3);
    model.dispose();
  });
});

describe('what is compared', () => {
  const run = (id: string) => ({ info: { run_id: id }, data: {} });

  it('is found by the ids of the runs, to the last page, in the order that was asked', async () => {
    const { api } = made({});
    const pages: unknown[] = [{ runs: [run('c'), run('a')], next_page_token: 't' }, { runs: [run('b')] }, {}];
    const sent = vi.spyOn(api, 'json').mockImplementation(() => Promise.resolve(pages.shift() as never));
    const found = await new Tracking(api, 'group-research').runsOf('1', ['a', 'b', 'gone', 'c']);
    expect(found.map(each => each.info.run_id)).toEqual(['a', 'b', 'c']);
    expect(sent.mock.calls.map(call => call[2])).toMatchObject([
      { experiment_ids: ['1'], filter: "attributes.run_id IN ('a','b','gone','c')" },
      { page_token: 't' }
    ]);
    expect(sent.mock.calls[0]?.[3]).toEqual({ workspace: 'group-research' });
  });

  it('has curves over all steps: a sample of those that are long, which is said', async () => {
    const { services, api } = made({ [`GET ${BASE}/metrics/get-history-bulk-interval`]: { metrics: [{ step: 1 }] } });
    expect(await new Tracking(api).history('a', 'loss')).toEqual([{ step: 1 }]);
    const query = `run_ids=a&metric_key=loss&max_results=${MOST_POINTS}`;
    expect(services.asked).toEqual([`GET ${BASE}/metrics/get-history-bulk-interval?${query}`]);
    const points = (count: number) => new Array(count).fill({ key: 'loss', value: 1, timestamp: 0, step: 0 });
    expect([areSampled([points(3)]), areSampled([[], points(MOST_POINTS)])]).toEqual([false, true]);
  });
});
