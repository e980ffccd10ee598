import { useEffect, useState } from 'react';

import type { Column, Preview } from '../../api/models';
import { Command, type Labwright } from '../../context';
import { count } from '../../format';
import { LOADING, load, type Loadable } from '../../store';
import { Listing } from '../../ui/states';
import { queryFor } from './model';

export interface PreviewProps {
  lw: Labwright;
  connection: string;
  schema: string;
  table: string;
}

/** The first 100 rows of a table in the main area. */
export function TablePreview({ lw, connection, schema, table }: PreviewProps): JSX.Element {
  const { trans, commands } = lw;
  const [preview, setPreview] = useState<Loadable<Preview>>(LOADING);
  const [sort, setSort] = useState<{ at: number; down: boolean }>();
  const fetchRows = async (): Promise<void> =>
    setPreview(await load(preview, () => lw.api.tablePreview(connection, schema, table)));
  useEffect(() => void fetchRows(), [connection, schema, table]);
  const found = preview.value;
  const insert = (): void => {
    const known = found?.table ?? { schema_name: schema, name: table, kind: 'table', rows: null };
    void commands.execute(Command.insertCell, { source: queryFor(connection, known), run: true });
  };
  return (
    <div className="lw-view">
      <div className="lw-view-head">
        <div>
          <h1>{table}</h1>
          <p className="lw-faint">
            {connection} · {schema}
            {found && found.table.rows !== null && ` · ${trans.__('about %1 rows', count(found.table.rows))}`}
            {found && ` · ${trans.__('first %1 in %2 s', found.rows.length, found.seconds.toFixed(2))}`}
          </p>
        </div>
        <button className="lw-button lw-mod-primary" onClick={insert}>
          {trans.__('Insert query')}
        </button>
      </div>
      <Listing
        trans={trans}
        of={preview}
        rows={12}
        isEmpty={value => value.rows.length === 0}
        empty={<p>{trans.__('The table has no rows that you may read.')}</p>}
        retry={() => void fetchRows()}
      >
        {value => (
          <div className="lw-grid-frame" tabIndex={0} role="region" aria-label={trans.__('Rows of %1', table)}>
            <table className="lw-grid">
              <thead>
                <tr>
                  {value.columns.map((column, at) => (
                    <th
                      key={column.name}
                      scope="col"
                      className={isNumber(column) ? 'lw-mod-number' : ''}
                      aria-sort={sort?.at === at ? (sort.down ? 'descending' : 'ascending') : 'none'}
                    >
                      <button onClick={() => setSort({ at, down: sort?.at === at && !sort.down })}>
                        {column.name}
                        <span aria-hidden="true">{sort?.at === at ? (sort.down ? ' ▾' : ' ▴') : ''}</span>
                      </button>
                      <span className="lw-type">{column.masked ? trans.__('masked') : column.type}</span>
                    </th>
                  ))}
                </tr>
              </thead>
              <tbody>
                {sorted(value.rows, sort).map((row, at) => (
                  <tr key={at}>
                    {value.columns.map((column, col) => (
                      <td key={column.name} className={isNumber(column) ? 'lw-mod-number' : ''}>
                        {cellText(row[col])}
                      </td>
                    ))}
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
      </Listing>
    </div>
  );
}

function isNumber(column: Column): boolean {
  return /int|double|float|numeric|decimal|real/i.test(column.type);
}

function cellText(value: unknown): JSX.Element | string {
  if (value === null || value === undefined) {
    return <span className="lw-null">null</span>;
  }
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

/** Rows in the order of one column; nulls last. */
export function sorted(rows: readonly unknown[][], by?: { at: number; down: boolean }): readonly unknown[][] {
  if (by === undefined) {
    return rows;
  }
  const sign = by.down ? -1 : 1;
  return [...rows].sort((one, other) => {
    const [a, b] = [one[by.at], other[by.at]];
    if (a === null || b === null) {
      return a === b ? 0 : a === null ? 1 : -1;
    }
    const order = typeof a === 'number' && typeof b === 'number' ? a - b : String(a).localeCompare(String(b));
    return sign * order;
  });
}
