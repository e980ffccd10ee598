/** An error as the services tell it: what happened, what to do, and details to copy. */
export class Problem extends Error {
  readonly status: number;
  readonly code: string;
  readonly remedy: string;
  readonly details: Record<string, unknown>;

  constructor(
    message: string,
    options: { status?: number; code?: string; remedy?: string; details?: Record<string, unknown> } = {}
  ) {
    super(message);
    this.name = 'Problem';
    this.status = options.status ?? 0;
    this.code = options.code ?? 'error';
    this.remedy = options.remedy ?? '';
    this.details = options.details ?? {};
  }

  /** What happened and what to do, where there is room for one text only. */
  get sentences(): string {
    return `${this.message} ${this.remedy}`.trim();
  }

  /** The text behind 'Copy details'. */
  report(): string {
    return JSON.stringify({ message: this.message, status: this.status, ...this.details }, null, 2);
  }
}

/** The problem that a failed answer describes; `body` is its text. */
export function problemFrom(status: number, body: string): Problem {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch {
    parsed = undefined;
  }
  if (typeof parsed === 'object' && parsed !== null) {
    const details = parsed as Record<string, unknown>;
    // MLflow says error_code and message.
    const message = text(details.detail) ?? text(details.message);
    if (message !== undefined) {
      const code = text(details.code) ?? text(details.error_code);
      return new Problem(message, { status, code, remedy: text(details.remedy), details });
    }
  }
  if (status === 502 || status === 503 || status === 504) {
    return new Problem('This part of Labwright cannot be reached right now.', {
      status,
      code: 'unavailable',
      remedy: 'It restarts by itself; this view tries again.'
    });
  }
  return new Problem(`The request failed with status ${status}.`, { status });
}

/** Whatever was thrown, as a problem. */
export function asProblem(error: unknown): Problem {
  if (error instanceof Problem) {
    return error;
  }
  if (error instanceof Error && (error.name === 'NetworkError' || error instanceof TypeError)) {
    return new Problem('Your server cannot be reached.', {
      code: 'unavailable',
      remedy: 'Check your connection; this view tries again by itself.'
    });
  }
  return new Problem(error instanceof Error ? error.message : String(error));
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}
