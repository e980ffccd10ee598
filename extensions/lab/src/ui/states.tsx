import { Clipboard } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import { useEffect, useReducer, useState, type ReactNode } from 'react';

import type { Problem } from '../api/problem';
import { absolute, relative } from '../format';
import type { Loadable, Store } from '../store';

/** The state of a model, rendered anew at each change. */
export function useStore<S extends object>(store: Store<S>): S {
  const [, again] = useReducer((n: number) => n + 1, 0);
  useEffect(() => {
    store.changed.connect(again);
    again();
    return () => void store.changed.disconnect(again);
  }, [store]);
  return store.state;
}

export interface ListingProps<T> {
  trans: TranslationBundle;
  of: Loadable<T>;
  isEmpty: (value: T) => boolean;
  empty: ReactNode;
  retry: () => void;
  rows?: number;
  children: (value: T) => ReactNode;
}

/** One list in its four states: loading, empty, error, full. */
export function Listing<T>(props: ListingProps<T>): JSX.Element {
  const { value, problem } = props.of;
  if (value === undefined) {
    return problem ? (
      <ErrorNote trans={props.trans} problem={problem} retry={props.retry} />
    ) : (
      <Skeleton trans={props.trans} rows={props.rows} />
    );
  }
  return (
    <>
      {problem && <ErrorNote trans={props.trans} problem={problem} retry={props.retry} />}
      {!props.isEmpty(value)
        ? props.children(value)
        : problem === undefined && <div className="lw-empty">{props.empty}</div>}
    </>
  );
}

export function Skeleton({ trans, rows = 4 }: { trans: TranslationBundle; rows?: number }): JSX.Element {
  return (
    <div className="lw-skeleton" role="status" aria-label={trans.__('Loading')}>
      {Array.from({ length: rows }, (_, row) => (
        <div key={row} className="lw-skeleton-row" style={{ width: `${88 - ((row * 23) % 40)}%` }} />
      ))}
    </div>
  );
}

export interface ErrorNoteProps {
  trans: TranslationBundle;
  problem: Problem;
  retry?: () => void;
}

/** What happened, what to do, and the details to copy. */
export function ErrorNote({ trans, problem, retry }: ErrorNoteProps): JSX.Element {
  const coming = problem.status === 503 || problem.code === 'unavailable';
  return (
    <div className={coming ? 'lw-note lw-mod-coming' : 'lw-note lw-mod-error'} role={coming ? 'status' : 'alert'}>
      <p className="lw-note-what">{problem.message}</p>
      {problem.remedy && <p>{problem.remedy}</p>}
      <div className="lw-actions">
        {retry && (
          <button className="lw-button" onClick={retry}>
            {trans.__('Try again')}
          </button>
        )}
        <button className="lw-button lw-mod-quiet" onClick={() => Clipboard.copyToSystem(problem.report())}>
          {trans.__('Copy details')}
        </button>
      </div>
    </div>
  );
}

const BAD = new Set(['failed', 'timed-out', 'lost', 'unreachable', 'FAILED', 'KILLED']);
const GOOD = new Set(['succeeded', 'running', 'ready', 'FINISHED', 'RUNNING']);

/**
 * A state in a word, with a dot: shape and text say it as well as the colour. `of`: whose it is, to be seen instead of
 * the word, which is read out all the same.
 */
export function State({ state, text, of }: { state: string; text?: string; of?: string }): JSX.Element {
  const word = text ?? state;
  const kind = BAD.has(state) ? 'bad' : GOOD.has(state) ? 'good' : state === 'cancelled' ? 'off' : 'wait';
  return (
    <span className={`lw-state lw-mod-${kind}`} data-state={state}>
      <span className="lw-dot" aria-hidden="true" />
      <span className="lw-state-text">{of ?? word}</span>
      {of !== undefined && <span className="lw-hidden">{word}</span>}
    </span>
  );
}

/** A relative time that stays true, with the absolute one on hover. */
export function Ago({ time }: { time: string | number }): JSX.Element {
  const now = useNow(15_000);
  return (
    <time dateTime={new Date(time).toISOString()} title={absolute(time)}>
      {relative(time, now)}
    </time>
  );
}

/** The time, again every `every` milliseconds. */
export function useNow(every: number): number {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => document.hidden || setNow(Date.now()), every);
    return () => clearInterval(timer);
  }, [every]);
  return now;
}

export interface SearchProps {
  label: string;
  value: string;
  onChange: (text: string) => void;
}

export function Search({ label, value, onChange }: SearchProps): JSX.Element {
  return (
    <input
      type="search"
      className="lw-input lw-search"
      placeholder={label}
      aria-label={label}
      value={value}
      onChange={event => onChange(event.target.value)}
    />
  );
}
