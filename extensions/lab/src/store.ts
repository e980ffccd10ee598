import type { IDisposable } from '@lumino/disposable';
import { Signal, type ISignal } from '@lumino/signaling';

import type { Problem } from './api/problem';
import { asProblem } from './api/problem';

/** What a list shows: nothing yet, an error (with what was there before), or its rows. */
export interface Loadable<T> {
  readonly value: T | undefined;
  readonly problem: Problem | undefined;
}

export const LOADING: Loadable<never> = { value: undefined, problem: undefined };

/** State and the signal of its changes; models extend it, views render it. */
export class Store<S extends object> implements IDisposable {
  private _state: S;
  private _disposed = false;
  private readonly _changed = new Signal<this, void>(this);

  constructor(initial: S) {
    this._state = initial;
  }

  get state(): S {
    return this._state;
  }

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get isDisposed(): boolean {
    return this._disposed;
  }

  dispose(): void {
    this._disposed = true;
    Signal.clearData(this);
  }

  protected set(change: Partial<S>): void {
    if (!this._disposed) {
      this._state = { ...this._state, ...change };
      this._changed.emit();
    }
  }
}

/** A store whose actions may fail: what went wrong is in its state, and what there is now is asked for afterwards. */
export abstract class ActingStore<S extends { problem: Problem | undefined }> extends Store<S> {
  abstract refresh(): Promise<void>;

  protected async act<T>(work: () => Promise<T>): Promise<T | undefined> {
    this.set({ problem: undefined } as Partial<S>);
    let done: T | undefined;
    try {
      done = await work();
    } catch (error) {
      this.set({ problem: asProblem(error) } as Partial<S>);
    }
    await this.refresh();
    return done;
  }
}

/** How soon a list looks again while its service is away: that one comes back by itself. */
export const AWAY_MS = 3_000;

export function isAway(of: Loadable<unknown>): boolean {
  return of.problem?.status === 503 || of.problem?.code === 'unavailable';
}

/** The next state of a list after `ask`: rows that were there stay while it fails, so that nothing flickers. */
export async function load<T>(before: Loadable<T>, ask: () => Promise<T>): Promise<Loadable<T>> {
  try {
    return { value: await ask(), problem: undefined };
  } catch (error) {
    return { value: before.value, problem: asProblem(error) };
  }
}
