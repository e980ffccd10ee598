import { Api, type Transport } from './api/client';
import { Live } from './api/live';

/** A page that is looked at. */
export const page = { hidden: false, addEventListener: () => undefined };

/** Answers by 'METHOD path?query', else by 'METHOD path', and remembers what it was asked. */
export class Services implements Transport {
  readonly asked: string[] = [];
  readonly sent: unknown[] = [];

  constructor(private readonly answers: Record<string, unknown>) {}

  async request(method: string, path: string, options?: { json?: unknown; signal?: AbortSignal }): Promise<Response> {
    const key = `${method} ${path.split('?')[0]}`;
    this.asked.push(`${method} ${path}`);
    this.sent.push(options?.json);
    const answer = this.answers[`${method} ${path}`] ?? this.answers[key];
    if (answer instanceof Response) {
      return answer.clone();
    }
    if (answer === undefined) {
      return new Response(JSON.stringify({ code: 'not-found', detail: `no ${key}` }), { status: 404 });
    }
    return new Response(JSON.stringify(answer));
  }
}

/** The calls and changes of panels, in front of these answers. */
export function made(answers: Record<string, unknown>): { services: Services; api: Api; live: Live } {
  const services = new Services(answers);
  const api = new Api(services);
  return { services, api, live: new Live(new Api(new Services({})), { ...page, hidden: true } as unknown as Document) };
}
