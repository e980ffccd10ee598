import type { IDisposable } from '@lumino/disposable';
import { Signal, type ISignal } from '@lumino/signaling';

import type { Api } from './client';
import type { Event as Change } from './models';

const RETRY_MS = 2_000;
const SLOWEST_RETRY_MS = 30_000;
/** Changes of so long are told of together: each costs its listeners a request, and a quick run has many a second. */
const GATHER_MS = 100;

/** What may have changed: one topic, or everything (after a gap, or while the stream cannot be had). */
export type Topic = Change['topic'] | 'everything';

/**
 * Tells of changes as they happen: core's event stream while the page is visible and somebody listens, a poll while
 * the stream cannot be had. Readers fetch again what a change names.
 */
export class Live implements IDisposable {
  private readonly _changed = new Signal<this, Topic>(this);
  private readonly _abort = new AbortController();
  private _stream: AbortController | undefined;
  private _listeners = 0;
  private _after: string | undefined;
  private _pause = RETRY_MS;
  private _timer: ReturnType<typeof setTimeout> | undefined;
  private _flows = false;
  private readonly _gathered = new Set<Topic>();
  private _telling: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly _api: Api,
    private readonly _page: Pick<Document, 'hidden' | 'addEventListener'> = document
  ) {
    this._page.addEventListener('visibilitychange', () => this.adjust(), { signal: this._abort.signal });
  }

  get changed(): ISignal<this, Topic> {
    return this._changed;
  }

  /** Whether changes come by themselves now, so that nobody has to look. */
  get flows(): boolean {
    return this._flows;
  }

  get isDisposed(): boolean {
    return this._abort.signal.aborted;
  }

  /** Call `then` for each change of these topics until the answer is disposed of. */
  watch(topics: readonly Topic[], then: () => void): IDisposable {
    const slot = (_: this, topic: Topic): void => {
      if (topic === 'everything' || topics.includes(topic)) {
        then();
      }
    };
    this._changed.connect(slot);
    this._listeners += 1;
    this.adjust();
    let disposed = false;
    return {
      get isDisposed() {
        return disposed;
      },
      dispose: () => {
        if (!disposed) {
          disposed = true;
          this._changed.disconnect(slot);
          this._listeners -= 1;
          this.adjust();
        }
      }
    };
  }

  dispose(): void {
    this._abort.abort();
    this.close();
    clearTimeout(this._telling);
    Signal.clearData(this);
  }

  /** Open or close the stream, as there are listeners and somebody looks. */
  private adjust(): void {
    const wanted = this._listeners > 0 && !this._page.hidden && !this.isDisposed;
    if (!wanted) {
      this.close();
    } else if (this._stream === undefined && this._timer === undefined) {
      void this.open();
    }
  }

  private close(): void {
    this._stream?.abort();
    this._stream = undefined;
    this._flows = false;
    clearTimeout(this._timer);
    this._timer = undefined;
  }

  private async open(): Promise<void> {
    const stream = (this._stream = new AbortController());
    try {
      const response = await this._api.send('GET', 'core/events', undefined, { after: this._after }, stream.signal);
      this._pause = RETRY_MS;
      if (this._after === undefined) {
        // What happened between the first listing and the stream is in no event.
        this.tell('everything');
      }
      await this.read(response, stream.signal);
    } catch {
      // Told below: after the pause everything is fetched again, which shows a failure where it matters.
    }
    if (this._stream !== stream) {
      return;
    }
    this._stream = undefined;
    this._flows = false;
    this._timer = setTimeout(() => {
      this._timer = undefined;
      this.tell('everything');
      this.adjust();
    }, this._pause);
    this._pause = Math.min(this._pause * 2, SLOWEST_RETRY_MS);
  }

  private async read(response: Response, signal: AbortSignal): Promise<void> {
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    if (reader === undefined) {
      return;
    }
    let buffer = '';
    for (;;) {
      const { done, value } = await reader.read();
      if (done || signal.aborted) {
        return;
      }
      const messages = (buffer + value.replace(/\r/g, '')).split('\n\n');
      buffer = messages.pop() ?? '';
      for (const message of messages) {
        this._flows = !signal.aborted;
        const { id, topic } = parseMessage(message);
        this._after = id ?? this._after;
        if (topic !== undefined) {
          this.tell(topic);
        }
      }
    }
  }

  private tell(topic: Topic): void {
    this._gathered.add(topic);
    this._telling ??= setTimeout(() => {
      this._telling = undefined;
      const topics = [...this._gathered];
      this._gathered.clear();
      topics.forEach(each => this._changed.emit(each));
    }, GATHER_MS);
  }
}

/** The id and topic of one server-sent message. */
export function parseMessage(message: string): { id?: string; topic?: Topic } {
  let id: string | undefined;
  let data = '';
  for (const line of message.split('\n')) {
    if (line.startsWith('id:')) {
      id = line.slice(3).trim();
    } else if (line.startsWith('data:')) {
      data += line.slice(5).trim();
    }
  }
  try {
    const change = JSON.parse(data) as Partial<Change>;
    return { id, topic: change.topic };
  } catch {
    return { id };
  }
}
