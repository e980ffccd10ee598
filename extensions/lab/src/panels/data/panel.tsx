import { caretDownIcon, caretRightIcon, tableRowsIcon } from '@jupyterlab/ui-components';
import { useEffect, type KeyboardEvent, type ReactNode } from 'react';

import type { Column, Connection, Table } from '../../api/models';
import { Command, type Labwright } from '../../context';
import { count } from '../../format';
import { LOADING } from '../../store';
import { Header } from '../../ui/panel';
import { ErrorNote, Listing, Search, Skeleton, State, useStore } from '../../ui/states';
import { bySchema, columnKey, queryFor, schemaKey, shortType, tableKey, type DataModel } from './model';
import { ProfileView } from './profile';

interface Props {
  lw: Labwright;
  model: DataModel;
}

export function DataPanel({ lw, model }: Props): JSX.Element {
  const { trans } = lw;
  const state = useStore(model);
  useEffect(() => void model.refresh(), [model]);
  return (
    <>
      <Header title={trans.__('Data')} trans={trans} onRefresh={() => void model.refresh()} />
      <Search
        label={trans.__('Search tables and columns')}
        value={state.search}
        onChange={text => void model.find(text)}
      />
      <div className="lw-scroll">
        <Listing
          trans={trans}
          of={state.connections}
          isEmpty={value => value.length === 0}
          retry={() => void model.refresh()}
          empty={
            <>
              <p>{trans.__('No connection has been granted to you yet. Your admin adds connections and grants.')}</p>
              <button className="lw-button" onClick={() => void model.refresh()}>
                {trans.__('Look again')}
              </button>
            </>
          }
        >
          {connections => (
            <ul className="lw-tree" role="tree" aria-label={trans.__('Connections')} onKeyDown={moveFocus}>
              {connections.map(connection => (
                <ConnectionItem key={connection.name} lw={lw} model={model} connection={connection} />
              ))}
            </ul>
          )}
        </Listing>
      </div>
    </>
  );
}

function ConnectionItem({ lw, model, connection }: Props & { connection: Connection }): JSX.Element {
  const { trans } = lw;
  const tables = model.state.tables[connection.name];
  const open = model.state.open.has(connection.name) || (model.state.search.trim() !== '' && tables !== undefined);
  const hint = connection.granted
    ? connection.reason || connection.description || connection.title
    : trans.__('You may not read this. Ask your admin for a grant.');
  return (
    <li role="none">
      <Row
        level={1}
        open={connection.granted ? open : undefined}
        label={connection.name}
        hint={hint}
        disabled={!connection.granted}
        onToggle={() => connection.granted && void model.toggleConnection(connection)}
        detail={
          <>
            <span className="lw-faint">{connection.title}</span>
            {connection.granted ? (
              <State
                state={connection.state}
                text={trans.__(connection.state)}
                of={connection.state === 'ready' ? '' : undefined}
              />
            ) : (
              <span className="lw-faint">{trans.__('no grant')}</span>
            )}
          </>
        }
      />
      {open && tables && <Tables lw={lw} model={model} connection={connection.name} />}
    </li>
  );
}

function Tables({ lw, model, connection }: Props & { connection: string }): JSX.Element {
  const { trans } = lw;
  const { tables, columns, search } = model.state;
  const loadable = tables[connection] ?? LOADING;
  return (
    <Listing
      trans={trans}
      of={loadable}
      rows={3}
      isEmpty={value => value.length === 0}
      empty={<p>{trans.__('There is no table here that you may read.')}</p>}
      retry={() => void model.loadTables(connection)}
    >
      {value => {
        const found = bySchema(value, search, table => columns[tableKey(connection, table)]?.value);
        return (
          <ul role="group">
            {found.length === 0 && <li className="lw-none">{trans.__('Nothing here matches.')}</li>}
            {found.map(([schema, members]) => {
              const open = model.isOpen(schemaKey(connection, schema));
              return (
                <li key={schema} role="none">
                  <Row
                    level={2}
                    open={open}
                    label={schema}
                    onToggle={() => model.toggleSchema(connection, schema)}
                    detail={<span className="lw-faint">{members.length}</span>}
                  />
                  {open && (
                    <ul role="group">
                      {members.map(table => (
                        <TableItem key={table.name} lw={lw} model={model} connection={connection} table={table} />
                      ))}
                    </ul>
                  )}
                </li>
              );
            })}
          </ul>
        );
      }}
    </Listing>
  );
}

function TableItem({ lw, model, connection, table }: Props & { connection: string; table: Table }): JSX.Element {
  const { trans, commands } = lw;
  const key = tableKey(connection, table);
  const open = model.state.open.has(key);
  const columns = model.state.columns[key] ?? LOADING;
  const preview = (): void => {
    void commands.execute(Command.previewTable, { connection, schema: table.schema_name, table: table.name });
  };
  const insert = (): void => {
    void commands.execute(Command.insertCell, { source: queryFor(connection, table), run: true });
  };
  return (
    <li role="none">
      <Row
        level={3}
        open={open}
        label={table.name}
        icon={<tableRowsIcon.react tag="span" elementSize="normal" />}
        onToggle={() => void model.toggleTable(connection, table)}
        onEnter={preview}
        detail={table.rows === null ? null : <span className="lw-number">{count(table.rows)}</span>}
        actions={
          <>
            <button className="lw-link" onClick={preview}>
              {trans.__('Preview')}
            </button>
            <button className="lw-link" onClick={insert} aria-label={trans.__('Insert query on %1', table.name)}>
              {trans.__('Insert query')}
            </button>
          </>
        }
      />
      {open && columns.problem && <ErrorNote trans={trans} problem={columns.problem} />}
      {open && !columns.problem && columns.value === undefined && <Skeleton trans={trans} rows={3} />}
      {open && columns.value && (
        <ul role="group">
          {columns.value.map(column => (
            <ColumnItem key={column.name} {...{ lw, model, connection, table, column }} />
          ))}
        </ul>
      )}
    </li>
  );
}

/** A column with its type; opened it shows what is in it. */
function ColumnItem({ lw, model, connection, table, column }: ColumnItemProps): JSX.Element {
  const { trans } = lw;
  const key = columnKey(connection, table, column.name);
  const open = model.state.open.has(key);
  const profile = model.state.profiles[key] ?? LOADING;
  const toggle = (): void => void model.toggleColumn(connection, table, column.name);
  return (
    <li role="none" className="lw-column">
      <Row
        level={4}
        open={open}
        label={column.name}
        hint={trans.__('What is in %1', column.name)}
        onToggle={toggle}
        detail={
          <span className="lw-faint" title={column.type}>
            {column.masked && trans.__('masked · ')}
            {shortType(column.type)}
          </span>
        }
      />
      {open && (
        <ul role="group">
          <li role="treeitem" aria-level={5} aria-selected={false} aria-label={trans.__('What is in %1', column.name)}>
            <Listing
              trans={trans}
              of={profile}
              rows={2}
              isEmpty={value => value.rows === 0}
              empty={<p>{trans.__('The table has no rows that you may read.')}</p>}
              retry={() => void model.loadProfile(connection, table, column.name)}
            >
              {value => <ProfileView lw={lw} profile={value} />}
            </Listing>
          </li>
        </ul>
      )}
    </li>
  );
}

interface ColumnItemProps extends Props {
  connection: string;
  table: Table;
  column: Column;
}

interface RowProps {
  level: number;
  open: boolean | undefined;
  label: string;
  hint?: string;
  disabled?: boolean;
  icon?: ReactNode;
  detail?: ReactNode;
  actions?: ReactNode;
  onToggle: () => void;
  onEnter?: () => void;
}

/** One row of the tree. Right and left open and close it, Enter does its main thing. */
function Row(props: RowProps): JSX.Element {
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.target !== event.currentTarget) {
      return;
    }
    const toggles =
      (event.key === 'ArrowRight' && props.open === false) ||
      (event.key === 'ArrowLeft' && props.open === true) ||
      event.key === ' ' ||
      (event.key === 'Enter' && !props.onEnter);
    if (toggles || event.key === 'Enter') {
      event.preventDefault();
      (toggles ? props.onToggle : props.onEnter)?.();
    }
  };
  const Caret = props.open ? caretDownIcon : caretRightIcon;
  return (
    <div
      role="treeitem"
      tabIndex={0}
      aria-level={props.level}
      aria-expanded={props.open}
      aria-selected={false}
      aria-disabled={props.disabled}
      aria-label={props.label}
      className="lw-row"
      style={{ paddingLeft: 4 + (props.level - 1) * 14 }}
      title={props.hint}
      onKeyDown={onKeyDown}
    >
      <span className="lw-row-main" onClick={props.onToggle}>
        <span className="lw-caret">{props.open !== undefined && <Caret.react tag="span" elementSize="normal" />}</span>
        {props.icon}
        <span className="lw-row-label">{props.label}</span>
      </span>
      <span className="lw-row-detail">{props.detail}</span>
      {props.actions && <span className="lw-row-actions">{props.actions}</span>}
    </div>
  );
}

/** Arrow up and down walk over the visible rows. */
function moveFocus(event: KeyboardEvent<HTMLElement>): void {
  if (event.key !== 'ArrowDown' && event.key !== 'ArrowUp') {
    return;
  }
  const rows = [...event.currentTarget.querySelectorAll<HTMLElement>('.lw-row')];
  const at = rows.findIndex(row => row.contains(document.activeElement));
  const next = rows[at + (event.key === 'ArrowDown' ? 1 : -1)];
  if (next) {
    event.preventDefault();
    next.focus();
  }
}
