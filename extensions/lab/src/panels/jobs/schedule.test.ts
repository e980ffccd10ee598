import { describe, expect, it } from 'vitest';

import { made } from '../../services.fake';
import { ScheduleModel } from './schedule-model';

const late = { id: 'j7', name: 'late', follow: false, schedule: { cron: '0 6 * * *', timezone: 'UTC' } };

async function opened(...items: unknown[]) {
  const { services, api } = made({
    'POST core/notebooks/inspect': { parameters_schema: { properties: {} }, kernel: 'python3', cells: 1 },
    'GET core/me': { profiles: [{ slug: 'small', available: true }], currency: 'EUR' },
    'GET core/jobs': { items, next: null },
    'POST core/jobs': { id: 'j8' },
    'PATCH core/jobs/j7': { id: 'j7' }
  });
  const model = new ScheduleModel(api, { path: 'late.ipynb', content: {} }, 'Europe/Berlin');
  await model.open();
  model.change({ runNow: false });
  return { services, model };
}

describe('following the notebook', () => {
  it('is switched on for a job that exists, without another run or schedule', async () => {
    const { services, model } = await opened(late);
    expect([model.follows, model.says]).toEqual([false, false]);
    model.change({ follow: true });
    expect([model.follows, model.says]).toEqual([true, true]);
    expect(await model.submit()).toEqual({ job: { id: 'j7' }, run: undefined });
    const sent = services.sent.at(-1) as Record<string, unknown>;
    expect(Object.keys(sent).sort()).toEqual(['follow', 'group', 'notebook', 'parameters', 'profile']);
    expect(sent.follow).toBe(true);
  });

  it('is switched off again', async () => {
    const { services, model } = await opened({ ...late, follow: true });
    expect(model.follows).toBe(true);
    model.change({ follow: false });
    await model.submit();
    expect(services.sent.at(-1)).toMatchObject({ follow: false });
  });

  it('stays as the job has it when nothing was said of it', async () => {
    const { services, model } = await opened({ ...late, follow: true });
    await model.when({ repeat: true });
    await model.submit();
    expect(services.sent.at(-1)).not.toHaveProperty('follow');
  });

  it('begins with a new job where that was chosen', async () => {
    const { services, model } = await opened();
    await model.when({ repeat: true });
    expect(model.follows).toBe(false);
    model.change({ follow: true });
    await model.submit();
    expect(services.sent.at(-1)).toMatchObject({ follow: true });
  });
});
