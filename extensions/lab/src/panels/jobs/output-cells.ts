import type { IOutput } from '@jupyterlab/nbformat';

export interface CellLike {
  cell_type: string;
  source: string;
  outputs: IOutput[];
  execution_count: number | null;
  metadata: Record<string, unknown>;
}

/** The cells of a notebook's JSON, whatever stands in it. */
export function readCells(content: Record<string, unknown>): CellLike[] {
  const cells = Array.isArray(content.cells) ? (content.cells as Partial<CellLike>[]) : [];
  return cells.map(cell => ({
    cell_type: String(cell.cell_type ?? 'raw'),
    source: Array.isArray(cell.source) ? cell.source.join('') : String(cell.source ?? ''),
    outputs: Array.isArray(cell.outputs) ? cell.outputs : [],
    execution_count: typeof cell.execution_count === 'number' ? cell.execution_count : null,
    metadata: typeof cell.metadata === 'object' && cell.metadata !== null ? cell.metadata : {}
  }));
}

export interface CellTime {
  at: number;
  prompt: string;
  source: string;
  firstLine: string;
  seconds: number;
}

/** How long each code cell took, as the engine noted it in the output notebook. */
export function cellTimes(content: Record<string, unknown>): CellTime[] {
  return readCells(content).flatMap((cell, at) => {
    const noted = cell.metadata.papermill as { duration?: unknown } | undefined;
    if (cell.cell_type !== 'code' || typeof noted?.duration !== 'number') {
      return [];
    }
    const firstLine = cell.source.split('\n').find(line => line.trim() !== '') ?? '';
    return [{ at, prompt: `[${cell.execution_count ?? ' '}]`, source: cell.source, firstLine, seconds: noted.duration }];
  });
}
