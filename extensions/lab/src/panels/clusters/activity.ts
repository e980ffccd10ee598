import type { Cluster } from '../../api/models';

/** What was seen of a cluster at a time. */
export interface Seen {
  time: number;
  memory: number;
}

export type Activity = Readonly<Record<string, readonly Seen[]>>;

const KEPT_MS = 10 * 60_000;

/** The last ten minutes of each cluster's memory, with what was seen now; those that are gone are forgotten. */
export function remember(before: Activity, clusters: readonly Cluster[], now: number): Activity {
  return Object.fromEntries(
    clusters.map(cluster => {
      const kept = (before[cluster.id] ?? []).filter(seen => now - seen.time < KEPT_MS);
      const memory = cluster.memory_used_bytes;
      return [cluster.id, memory === null ? kept : [...kept, { time: now, memory }]];
    })
  );
}

/** How long it was looked at; too short to draw below half a minute. */
export function seenSeconds(seen: readonly Seen[]): number {
  return ((seen[seen.length - 1]?.time ?? 0) - (seen[0]?.time ?? 0)) / 1000;
}

/** Points of a line in a box of `width` by `height`: from the first to the last, the whole memory at the top. */
export function linePoints(seen: readonly Seen[], most: number, width: number, height: number): string {
  const [first, last] = [seen[0], seen[seen.length - 1]];
  if (first === undefined || last === undefined || first === last || most <= 0) {
    return '';
  }
  const x = (time: number): number => ((time - first.time) / (last.time - first.time)) * width;
  const y = (memory: number): number => height - 1 - Math.min(1, memory / most) * (height - 2);
  return seen.map(each => `${x(each.time).toFixed(1)},${y(each.memory).toFixed(1)}`).join(' ');
}
