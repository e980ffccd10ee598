import { describe, expect, it } from 'vitest';

import { diffNotebooks, sourceLines } from './notebook-diff';

const notebook = (...sources: string[]) => ({
  cells: sources.map(source => ({ cell_type: 'code', source }))
});
const signs = { cell: '#', same: ' ', added: '+', removed: '-', skipped: '…' };
const text = (before: string[], after: string[]): string[] =>
  diffNotebooks(notebook(...before), notebook(...after)).map(line => signs[line.kind] + line.text);

describe('the difference of two notebooks', () => {
  it('is nothing when the sources are equal, whatever the outputs and ids', () => {
    const one = { cells: [{ cell_type: 'code', id: 'a', source: ['x = 1\n', 'x'], outputs: [1], execution_count: 3 }] };
    expect(diffNotebooks(one, notebook('x = 1\nx'))).toEqual([]);
  });

  it('names the cell, keeps three lines around a change and counts what it leaves out', () => {
    const lines = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i'];
    const changed = lines.map(line => (line === 'e' ? 'E' : line));
    expect(text([lines.join('\n')], [changed.join('\n')])).toEqual([
      '#code 1', '…1', ' b', ' c', ' d', '-e', '+E', ' f', ' g', ' h', '…1'
    ]);
  });

  it('shows a cell that was put in or taken out as that, though all after it have other numbers', () => {
    expect(text(['x = 1', 'z = 3'], ['x = 1', 'y = 2', 'z = 3'])).toEqual([
      '#code 1', ' x = 1', '#code 2', '+y = 2', '#code 3', ' z = 3'
    ]);
    expect(text(['x = 1', 'y = 2'], ['x = 1'])).toEqual(['#code 1', ' x = 1', '-── code 2', '-y = 2']);
  });

  it('of sources too long to compare replaces the middle', () => {
    const long = (prefix: string): string => Array.from({ length: 2_100 }, (_, at) => `${prefix}${at}`).join('\n');
    const found = diffNotebooks(notebook(long('a')), notebook(long('b')));
    expect(found.filter(line => line.kind === 'removed')).toHaveLength(2_100);
    expect(found.filter(line => line.kind === 'added')).toHaveLength(2_100);
  });

  it('reads whatever stands in a notebook', () => {
    expect(sourceLines({ cells: [{ source: 7 }, {}] }).map(line => line.text)).toEqual(['raw 1', '7', 'raw 2', '']);
    expect(sourceLines({ cells: 'none' })).toEqual([]);
  });
});
