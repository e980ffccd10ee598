import type { TrackedRun } from '../../api/mlflow';
import { figure } from '../../format';
import { diffParams, keysOf, metricOf } from './model';

/** One axis of the plot: where each run's line crosses it (0 at the bottom, 1 at the top), and its labels. */
export interface Axis {
  key: string;
  kind: 'param' | 'metric';
  positions: readonly (number | undefined)[];
  ticks: readonly { label: string; position: number }[];
}

/** More cannot be told apart; the tables below hold all of them. */
const MOST_AXES = 8;

/** Params that differ, then metrics that differ: what was turned, and what came of it. */
export function parallelAxes(runs: readonly TrackedRun[]): Axis[] {
  const params = diffParams(runs)
    .filter(row => row.differs)
    .map(row => axisOf(row.key, 'param', row.values.map(asNumber) as (number | string | undefined)[]));
  const metrics = keysOf(runs, 'metrics')
    .map(key => axisOf(key, 'metric', runs.map(run => finite(metricOf(run, key)))))
    .filter(axis => new Set(axis.positions).size > 1);
  const room = Math.max(MOST_AXES - params.length, MOST_AXES / 2);
  return [...params.slice(0, MOST_AXES - Math.min(metrics.length, room)), ...metrics.slice(0, room)];
}

const finite = (value: number | undefined): number | undefined => (Number.isFinite(value) ? value : undefined);

const asNumber = (value: string | undefined): number | string | undefined =>
  value !== undefined && value.trim() !== '' && Number.isFinite(Number(value)) ? Number(value) : value;

/** Numbers lie by their size, words in order at equal distances. */
function axisOf(key: string, kind: Axis['kind'], values: readonly (number | string | undefined)[]): Axis {
  const known = values.filter((value): value is number | string => value !== undefined);
  if (known.every(value => typeof value === 'number')) {
    const [low, high] = [Math.min(...known), Math.max(...known)];
    const at = (value: number): number => (high === low ? 0.5 : (value - low) / (high - low));
    const ticks = [...new Set([low, high])].map(value => ({ label: figure(value), position: at(value) }));
    return { key, kind, ticks, positions: values.map(value => (typeof value === 'number' ? at(value) : undefined)) };
  }
  const words = [...new Set(known.map(String))].sort();
  const at = (word: string): number => (words.length === 1 ? 0.5 : words.indexOf(word) / (words.length - 1));
  return {
    key,
    kind,
    ticks: words.map(word => ({ label: word, position: at(word) })),
    positions: values.map(value => (value === undefined ? undefined : at(String(value))))
  };
}
