import type { IDisposable } from '@lumino/disposable';

import type { Api } from '../../api/client';
import type { Live } from '../../api/live';
import type { Column, ColumnProfile, Connection, Table } from '../../api/models';
import { asProblem } from '../../api/problem';
import { AWAY_MS, LOADING, Store, isAway, load, type Loadable } from '../../store';

export interface DataState {
  connections: Loadable<readonly Connection[]>;
  /** Tables by connection, once it has been opened. */
  tables: Readonly<Record<string, Loadable<readonly Table[]>>>;
  /** Columns by `tableKey`, once the table has been opened. */
  columns: Readonly<Record<string, Loadable<readonly Column[]>>>;
  /** What is in a column by `columnKey`, once it has been opened. */
  profiles: Readonly<Record<string, Loadable<ColumnProfile>>>;
  open: ReadonlySet<string>;
  search: string;
}

export const schemaKey = (connection: string, schema: string): string => `${connection}\n${schema}`;
export const tableKey = (connection: string, table: Table): string =>
  `${connection}\n${table.schema_name}\n${table.name}`;
export const columnKey = (connection: string, table: Table, column: string): string =>
  `${tableKey(connection, table)}\n${column}`;

/** The tree of connections, schemas, tables and columns; each level is fetched when it is opened. */
export class DataModel extends Store<DataState> {
  private readonly _watch: IDisposable;
  private _timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly _api: Api,
    live: Live,
    private readonly _hidden: () => boolean = () => document.hidden
  ) {
    super({ connections: LOADING, tables: {}, columns: {}, profiles: {}, open: new Set(), search: '' });
    this._watch = live.watch(['connection'], () => void this.refresh());
  }

  override dispose(): void {
    clearTimeout(this._timer);
    this._watch.dispose();
    super.dispose();
  }

  async refresh(): Promise<void> {
    const connections = await load(this.state.connections, async () => (await this._api.connections()).items);
    this.set({ connections });
    const open = (connections.value ?? []).filter(each => this.state.tables[each.name] !== undefined);
    await Promise.all(open.map(each => this.loadTables(each.name)));
    this.plan();
  }

  /** Nothing changes here by itself but the service: look again while it is away. */
  private plan(): void {
    clearTimeout(this._timer);
    const lists = [this.state.connections, ...Object.values(this.state.tables)];
    if (!this.isDisposed && lists.some(isAway)) {
      this._timer = setTimeout(() => (this._hidden() ? this.plan() : void this.refresh()), AWAY_MS);
    }
  }

  async toggleConnection(connection: Connection): Promise<void> {
    const { name } = connection;
    if (this.flip(name) && this.state.tables[name]?.value === undefined) {
      await this.loadTables(name);
    }
  }

  toggleSchema(connection: string, schema: string): void {
    this.flip(schemaKey(connection, schema));
  }

  async toggleTable(connection: string, table: Table): Promise<void> {
    const key = tableKey(connection, table);
    if (!this.flip(key) || this.state.columns[key]?.value !== undefined) {
      return;
    }
    const before = LOADING as Loadable<readonly Column[]>;
    this.set({ columns: { ...this.state.columns, [key]: before } });
    const columns = await load(before, async () => (await this._api.columns(connection, table)).columns);
    this.set({ columns: { ...this.state.columns, [key]: columns } });
  }

  /** Look for tables and columns; all that may be read are opened, since a match may lie in any. */
  async toggleColumn(connection: string, table: Table, column: string): Promise<void> {
    const key = columnKey(connection, table, column);
    if (this.flip(key) && this.state.profiles[key]?.value === undefined) {
      await this.loadProfile(connection, table, column);
    }
  }

  async loadProfile(connection: string, table: Table, column: string): Promise<void> {
    const keep = (profile: Loadable<ColumnProfile>): void =>
      this.set({ profiles: { ...this.state.profiles, [columnKey(connection, table, column)]: profile } });
    keep(LOADING);
    keep(await load<ColumnProfile>(LOADING, () => this._api.columnProfile(connection, table, column)));
  }

  async find(search: string): Promise<void> {
    this.set({ search });
    if (search.trim() === '') {
      return;
    }
    const unopened = (this.state.connections.value ?? []).filter(
      each => each.granted && this.state.tables[each.name] === undefined
    );
    await Promise.all(unopened.map(each => this.loadTables(each.name)));
  }

  async loadTables(connection: string): Promise<void> {
    const before = this.state.tables[connection] ?? LOADING;
    this.set({ tables: { ...this.state.tables, [connection]: before } });
    try {
      const { tables } = await this._api.catalog(connection);
      const schemas = new Set(tables.map(table => table.schema_name));
      const open = new Set(this.state.open);
      if (before.value === undefined && schemas.size <= 2) {
        schemas.forEach(schema => open.add(schemaKey(connection, schema)));
      }
      this.set({ open, tables: { ...this.state.tables, [connection]: { value: tables, problem: undefined } } });
    } catch (error) {
      const failed = { value: before.value, problem: asProblem(error) };
      this.set({ tables: { ...this.state.tables, [connection]: failed } });
    }
  }

  isOpen(key: string): boolean {
    return this.state.open.has(key) || this.state.search.trim() !== '';
  }

  private flip(key: string): boolean {
    const open = new Set(this.state.open);
    const opened = !open.delete(key);
    if (opened) {
      open.add(key);
    }
    this.set({ open });
    return opened;
  }
}

/** Tables by schema, in order, of those whose name or known columns hold the text. */
export function bySchema(
  tables: readonly Table[],
  search: string,
  columnsOf: (table: Table) => readonly Column[] | undefined
): [string, Table[]][] {
  const wanted = search.trim().toLowerCase();
  const found = new Map<string, Table[]>();
  for (const table of tables) {
    const hit =
      wanted === '' ||
      `${table.schema_name}.${table.name}`.toLowerCase().includes(wanted) ||
      (columnsOf(table) ?? []).some(column => column.name.toLowerCase().includes(wanted));
    if (hit) {
      found.set(table.schema_name, [...(found.get(table.schema_name) ?? []), table]);
    }
  }
  return [...found.entries()].sort(([a], [b]) => a.localeCompare(b));
}

/** The cell that *Insert query* makes. */
export function queryFor(connection: string, table: Table): string {
  return `%%sql ${connection}\nSELECT *\nFROM ${quoted(table.schema_name)}.${quoted(table.name)}\nLIMIT 100`;
}

/** An SQL identifier, quoted only where it must be. */
export function quoted(name: string): string {
  return /^[a-z_][a-z0-9_]*$/.test(name) ? name : `"${name.replace(/"/g, '""')}"`;
}

/** A type's name as short as people write it. */
export function shortType(type: string): string {
  return type
    .replace(/^timestamp with time zone$/i, 'timestamptz')
    .replace(/^timestamp without time zone$/i, 'timestamp')
    .replace(/^double precision$/i, 'double')
    .replace(/^character varying/i, 'varchar');
}
