/** What differs between two notebooks' sources, line by line and cell by cell. Pure; outputs do not count. */

export interface DiffLine {
  kind: 'cell' | 'same' | 'added' | 'removed' | 'skipped';
  /** The line; of a cell its heading, of what is skipped how many lines. */
  text: string;
}

const CONTEXT = 3;
/** Beyond so many pairs of lines the middle counts as replaced: a table of that size would stop the page. */
const MOST_PAIRS = 4_000_000;

/** All lines with a heading for each cell, as `diffNotebooks` compares them. */
export function sourceLines(content: Record<string, unknown>): DiffLine[] {
  const cells = Array.isArray(content.cells) ? (content.cells as Record<string, unknown>[]) : [];
  return cells.flatMap((cell, at) => {
    const source = Array.isArray(cell.source) ? cell.source.join('') : String(cell.source ?? '');
    const heading: DiffLine = { kind: 'cell', text: `${String(cell.cell_type ?? 'raw')} ${at + 1}` };
    return [heading, ...source.split('\n').map(text => ({ kind: 'same' as const, text }))];
  });
}

/** The lines of both in one order, those far from any change left out; empty when the sources are equal. */
export function diffNotebooks(before: Record<string, unknown>, after: Record<string, unknown>): DiffLine[] {
  const lines = merge(sourceLines(before), sourceLines(after));
  return lines.some(line => line.kind === 'added' || line.kind === 'removed') ? shorten(lines) : [];
}

// A cell's heading holds its number, which moves when a cell is put in before it: its kind alone is compared.
const mark = (line: DiffLine): string => (line.kind === 'cell' ? `\n${line.text.split(' ')[0]}` : line.text);

function merge(before: DiffLine[], after: DiffLine[]): DiffLine[] {
  let start = 0;
  while (start < before.length && start < after.length && mark(before[start]!) === mark(after[start]!)) {
    start += 1;
  }
  let end = 0;
  while (
    end < before.length - start &&
    end < after.length - start &&
    mark(before[before.length - 1 - end]!) === mark(after[after.length - 1 - end]!)
  ) {
    end += 1;
  }
  const middle = mergeMiddle(before.slice(start, before.length - end), after.slice(start, after.length - end));
  return [...after.slice(0, start), ...middle, ...after.slice(after.length - end)];
}

/** The longest common part stays, by the usual table; the rest is removed or added. */
function mergeMiddle(before: DiffLine[], after: DiffLine[]): DiffLine[] {
  const gone = (line: DiffLine): DiffLine => ({ kind: 'removed', text: shown(line) });
  const come = (line: DiffLine): DiffLine => (line.kind === 'cell' ? line : { kind: 'added', text: line.text });
  if (before.length * after.length > MOST_PAIRS) {
    return [...before.map(gone), ...after.map(come)];
  }
  const width = after.length + 1;
  const common = new Uint32Array((before.length + 1) * width);
  for (let i = before.length - 1; i >= 0; i--) {
    for (let j = after.length - 1; j >= 0; j--) {
      const same = mark(before[i]!) === mark(after[j]!);
      const best = Math.max(common[(i + 1) * width + j]!, common[i * width + j + 1]!);
      common[i * width + j] = same ? common[(i + 1) * width + j + 1]! + 1 : best;
    }
  }
  const merged: DiffLine[] = [];
  let [i, j] = [0, 0];
  while (i < before.length || j < after.length) {
    if (i < before.length && j < after.length && mark(before[i]!) === mark(after[j]!)) {
      merged.push(after[j]!);
      [i, j] = [i + 1, j + 1];
    } else if (j === after.length || (i < before.length && common[(i + 1) * width + j]! >= common[i * width + j + 1]!)) {
      merged.push(gone(before[i++]!));
    } else {
      merged.push(come(after[j++]!));
    }
  }
  return merged;
}

const shown = (line: DiffLine): string => (line.kind === 'cell' ? `── ${line.text}` : line.text);

/** Keeps the changes, a few lines around them, and the heading of their cell. */
function shorten(lines: DiffLine[]): DiffLine[] {
  const keep = new Set<number>();
  let heading = 0;
  lines.forEach((line, at) => {
    heading = line.kind === 'cell' ? at : heading;
    if (line.kind === 'added' || line.kind === 'removed') {
      for (let near = at - CONTEXT; near <= at + CONTEXT; near++) {
        keep.add(near);
      }
      keep.add(heading);
    }
  });
  const short: DiffLine[] = [];
  let skipped = 0;
  const flush = (): void => {
    if (skipped > 0) {
      short.push({ kind: 'skipped', text: String(skipped) });
    }
    skipped = 0;
  };
  lines.forEach((line, at) => {
    if (keep.has(at)) {
      flush();
      short.push(line);
    } else {
      skipped += 1;
    }
  });
  flush();
  return short;
}
