import { Signal, type ISignal } from '@lumino/signaling';

import type { Api, ServerStatus } from '../api/client';
import type { BudgetNotice } from '../api/models';
import { bytesOf, duration, money } from '../format';
import { LOADING, Store, load, type Loadable } from '../store';

const REFRESH_MS = 15_000;
const SOON_SECONDS = 600;
const TOLD_KEY = 'labwright:budgets-told';
const TOLD_KEPT = 20;

/** What the status bar shows; asked for while the page is visible. */
export class StatusModel extends Store<{ status: Loadable<ServerStatus> }> {
  private readonly _notices = new Signal<this, BudgetNotice>(this);
  private _timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly _api: Api,
    private readonly _hidden: () => boolean = () => document.hidden,
    private readonly _kept: Pick<Storage, 'getItem' | 'setItem'> = localStorage
  ) {
    super({ status: LOADING });
  }

  /** Each budget's notice once for its threshold and its day, week or month, in this browser. */
  get notices(): ISignal<this, BudgetNotice> {
    return this._notices;
  }

  async refresh(): Promise<void> {
    if (!this._hidden()) {
      this.set({ status: await load(this.state.status, () => this._api.status()) });
      this.state.status.value?.budgets.forEach(notice => this.tell(notice));
    }
    clearTimeout(this._timer);
    if (!this.isDisposed) {
      this._timer = setTimeout(() => void this.refresh(), REFRESH_MS);
    }
  }

  override dispose(): void {
    clearTimeout(this._timer);
    super.dispose();
  }

  private tell(notice: BudgetNotice): void {
    const key = `${notice.account} ${notice.threshold} ${notice.since}`;
    const told = (this._kept.getItem(TOLD_KEY) ?? '').split('\n');
    if (!told.includes(key)) {
      this._kept.setItem(TOLD_KEY, [...told, key].slice(-TOLD_KEPT).join('\n'));
      this._notices.emit(notice);
    }
  }
}

/** 'Small · 1.2/2 GB · 0.31 € · stops in 46 m', as much of it as is known, and the budget nearest its end. */
export function statusText(status: ServerStatus, now: number): string {
  const left = secondsLeft(status, now);
  return [
    status.profile_name ?? status.profile,
    bytesOf(status.memory_used_bytes, status.memory_limit_bytes),
    status.cost === null ? undefined : money(status.cost, status.currency),
    status.budgets.length === 0 ? undefined : `budget ${Math.max(...status.budgets.map(each => each.percent))} % spent`,
    left === undefined ? undefined : left <= 0 ? 'stops now' : `stops in ${duration(left)}`
  ]
    .filter(Boolean)
    .join(' · ');
}

export function secondsLeft(status: ServerStatus, now: number): number | undefined {
  return status.idle_stops_at === null ? undefined : (Date.parse(status.idle_stops_at) - now) / 1000;
}

/** Whether something wants attention: memory nearly full, the server about to stop, or a budget near its end. */
export function isUrgent(status: ServerStatus, now: number): boolean {
  const left = secondsLeft(status, now);
  const full = status.memory_limit_bytes !== null && status.memory_used_bytes > 0.9 * status.memory_limit_bytes;
  return full || status.budgets.length > 0 || (left !== undefined && left < SOON_SECONDS);
}
