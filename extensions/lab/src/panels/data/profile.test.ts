import { nullTranslator } from '@jupyterlab/translation';
import { describe, expect, it } from 'vitest';

import type { ColumnProfile } from '../../api/models';
import { made } from '../../services.fake';
import { DataModel, columnKey } from './model';
import { shown, summary } from './profile';

const words = { trans: nullTranslator.load('labwright') };
const empty: ColumnProfile = { rows: 1000, nulls: 0, distinct: null, least: null, greatest: null, mean: null, common: [], bins: [] };

describe('what is in a column', () => {
  it('is said as far as it is known', () => {
    expect(summary(empty, words)).toEqual(['no nulls']);
    const texts = { ...empty, nulls: 1, distinct: 16, least: '9E', greatest: 'YV' };
    expect(summary(texts, words)).toEqual(['1 null (0.1 %)', '16 values', '9E – YV']);
    const numbers = { ...empty, rows: 100000, nulls: 3, distinct: 1, mean: 6.8953 };
    expect(summary(numbers, words)).toEqual(['3 null (< 0.1 %)', '1 value', 'mean 6.895']);
    expect(shown('2013-01-01T10:00:00+00:00')).toBe('2013-01-01 10:00');
    expect([shown(''), shown(true), shown(0.123456), shown('a')]).toEqual(["''", 'true', '0.1235', 'a']);
  });

  it('is asked for when the column is opened, and again only after a failure', async () => {
    const table = { schema_name: 'public', name: 'flights', kind: 'table' as const, rows: 1 };
    const path = 'GET data/connections/w/tables/public/flights/columns/a%2Fb/profile';
    const answers: Record<string, unknown> = {};
    const { services, api, live } = made(answers);
    const model = new DataModel(api, live);
    const toggle = (): Promise<void> => model.toggleColumn('w', table, 'a/b');
    const key = columnKey('w', table, 'a/b');
    await toggle();
    expect(model.state.profiles[key]?.problem?.status).toBe(404);
    answers[path] = empty;
    await toggle();
    await toggle();
    expect(model.state.profiles[key]?.value).toEqual(empty);
    await toggle();
    await toggle();
    expect(services.asked).toEqual([path, path]);
    model.dispose();
  });
});
