import type { Api } from '../../api/client';
import type { ClusterRequest, Me, ProfileCard, QuotaLine } from '../../api/models';
import { bytes, count, money, trimmed } from '../../format';
import { LOADING, Store, load, type Loadable } from '../../store';

export interface StartState {
  /** How often the form was asked for since it is open; 0 while it is closed. */
  asked: number;
  me: Loadable<Me>;
  engine: ClusterRequest['engine'];
  workers: number;
  profile: string;
}

export const MOST_WORKERS = 256;

/** The form that starts a cluster: its size, what that costs, and whether it fits. */
export class StartModel extends Store<StartState> {
  constructor(private readonly _api: Api) {
    super({ asked: 0, me: LOADING, engine: 'dask', workers: 2, profile: '' });
  }

  /** Open the form, for `engine` where one is said; what is open already is asked for again. */
  ask(engine: StartState['engine'] = this.state.engine): Promise<void> {
    this.set({ asked: this.state.asked + 1, engine });
    return this.refresh();
  }

  close(): void {
    this.set({ asked: 0 });
  }

  /** Whether there is still no price to decide by, nor a reason why there is none. */
  get isLoading(): boolean {
    return this.state.me === LOADING;
  }

  async refresh(): Promise<void> {
    const me = await load(this.state.me, () => this._api.me());
    const cards = sizes(me.value);
    const profile = cards.find(card => card.slug === this.state.profile) ?? cards[0];
    this.set({ me, profile: profile?.slug ?? '' });
  }

  change(change: Partial<Pick<StartState, 'engine' | 'workers' | 'profile'>>): void {
    this.set(change);
  }

  get card(): ProfileCard | undefined {
    return this.state.me.value?.profiles.find(card => card.slug === this.state.profile);
  }

  /** Without the profiles the service chooses the smallest. */
  request(): ClusterRequest {
    const { engine, workers } = this.state;
    const { card } = this;
    return { engine, workers, ...(card ? { profile: card.slug, group: card.group } : {}) };
  }
}

/** The profiles that a worker may have, the smallest first, as core chooses when none is said. */
export function sizes(me: Me | undefined): ProfileCard[] {
  return [...(me?.profiles ?? [])].sort(
    (a, b) => gpus(a) - gpus(b) || a.cpu - b.cpu || a.price_per_hour - b.price_per_hour
  );
}

function gpus(card: ProfileCard): number {
  return Object.values(card.gpu).reduce((sum, each) => sum + each, 0);
}

/** '2 CPU · 4 GB · 0.10 €/h': all workers together. */
export function totals(card: ProfileCard, workers: number, currency: string | undefined): string {
  const size = [`${trimmed(card.cpu * workers, 2)} CPU`, bytes(card.memory_bytes * workers)];
  if (gpus(card) > 0) {
    size.push(`${gpus(card) * workers} GPU`);
  }
  return [...size, `${money(card.price_per_hour * workers, currency)}/h`].join(' · ');
}

export interface Room {
  /** '4 clusters', '2 CPU', … of the account that pays. */
  left: string[];
  /** What would not fit. */
  short: string[];
}

/** What the paying account has left, and what of the ask is more than that. */
export function room(me: Me, card: ProfileCard, workers: number): Room {
  const account = card.group ? `group:${card.group}` : `user:${me.name}`;
  const lines = me.quotas.find(quota => quota.account === account)?.lines ?? [];
  const asked: Record<string, number> = {
    clusters: 1,
    cpu: card.cpu * workers,
    memory_bytes: card.memory_bytes * workers,
    budget: 0,
    ...(gpus(card) > 0 ? { gpu: gpus(card) * workers } : {})
  };
  const limited = lines.filter(line => line.limit !== null && asked[line.resource] !== undefined);
  const tooMuch = (line: QuotaLine): boolean => {
    const left = line.left ?? 0;
    return line.resource === 'budget' ? left <= 0 : (asked[line.resource] ?? 0) > left;
  };
  return {
    left: limited.map(line => amount(line, line.left ?? 0, me.currency)),
    short: limited.filter(tooMuch).map(line => amount(line, line.left ?? 0, me.currency))
  };
}

function amount(line: QuotaLine, value: number, currency: string): string {
  switch (line.resource) {
    case 'memory_bytes':
      return bytes(value);
    case 'budget':
      return money(value, currency);
    case 'cpu':
      return `${trimmed(value, 2)} CPU`;
    case 'gpu':
      return `${count(value)} GPU`;
    default:
      return value === 1 ? '1 cluster' : `${count(value)} clusters`;
  }
}
