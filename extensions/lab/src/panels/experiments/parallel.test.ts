import { describe, expect, it } from 'vitest';

import type { TrackedRun } from '../../api/mlflow';
import { lineAt } from './colours';
import { parallelAxes } from './parallel';

const run = (params: Record<string, string>, metrics: Record<string, number>): TrackedRun => ({
  info: { run_id: 'r', run_name: 'r', experiment_id: '1', status: 'FINISHED', start_time: 1 },
  data: {
    params: Object.entries(params).map(([key, value]) => ({ key, value })),
    metrics: Object.entries(metrics).map(([key, value]) => ({ key, value, timestamp: 0, step: 0 }))
  }
});

describe('parallel coordinates', () => {
  it('has an axis for each param and metric that differs, params first', () => {
    const runs = [run({ depth: '6', same: '1' }, { auc: 0.7 }), run({ depth: '10', same: '1' }, { auc: 0.9 })];
    expect(parallelAxes(runs)).toEqual([
      { key: 'depth', kind: 'param', positions: [0, 1], ticks: [{ label: '6', position: 0 }, { label: '10', position: 1 }] },
      { key: 'auc', kind: 'metric', positions: [0, 1], ticks: [{ label: '0.7', position: 0 }, { label: '0.9', position: 1 }] }
    ]);
  });

  it('lays numbers by size and words in order, and leaves a gap for what is missing', () => {
    const [carrier, depth] = parallelAxes([
      run({ carrier: 'UA', depth: '2' }, {}),
      run({ carrier: 'AA', depth: '8' }, {}),
      run({ carrier: 'DL', depth: '4' }, {}),
      run({}, {})
    ]);
    expect(carrier?.positions).toEqual([1, 0, 0.5, undefined]);
    expect(depth?.positions).toEqual([0, 1, 2 / 6, undefined]);
  });

  it('draws no more axes than can be told apart, and always some of both kinds', () => {
    const many = (kind: string, by: number): [string, number][] => Array.from({ length: 20 }, (_, at) => [kind + at, at + by]);
    const of = (by: number): TrackedRun =>
      run(Object.fromEntries(many('p', by).map(([key, value]) => [key, String(value)])), Object.fromEntries(many('m', by)));
    const kinds = parallelAxes([of(1), of(2)]).map(axis => axis.kind);
    expect(kinds).toEqual([...Array(4).fill('param'), ...Array(4).fill('metric')]);
  });

  it('draws a metric that no longer is a number without failing', () => {
    const axes = parallelAxes([run({}, { loss: NaN }), run({}, { loss: 1 }), run({}, { loss: 3 })]);
    expect(axes[0]?.positions).toEqual([undefined, 0, 1]);
  });
});

describe('the lines of runs that are compared', () => {
  it('differ by dash where they stand side by side, and wholly up to twenty', () => {
    const lines = Array.from({ length: 20 }, (_, at) => lineAt(at));
    expect(lines[0]!.dash).not.toEqual(lines[1]!.dash);
    expect(new Set(lines.map(line => JSON.stringify(line))).size).toBe(20);
  });
});
