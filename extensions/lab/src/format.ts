/** Numbers and times as people read them. Pure; `now` in milliseconds is an argument. */

const GIB = 1024 ** 3;

export function bytes(value: number, digits = 1): string {
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  let size = value;
  let unit = 0;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${trimmed(size, unit < 3 ? 0 : digits)} ${units[unit]}`;
}

/** '1.2/2 GB': what is used in the unit of the limit. */
export function bytesOf(used: number, limit: number | null): string {
  if (limit === null || limit < GIB) {
    return limit === null ? bytes(used) : `${bytes(used)} of ${bytes(limit)}`;
  }
  return `${(used / GIB).toFixed(1)}/${trimmed(limit / GIB, 1)} GB`;
}

export function money(value: number, currency: string | null | undefined): string {
  const code = currency || 'EUR';
  const sign = { EUR: '€', USD: '$', GBP: '£' }[code] ?? code;
  const digits = value !== 0 && Math.abs(value) < 0.01 ? 4 : 2;
  return `${value.toFixed(digits)} ${sign}`;
}

export function count(value: number): string {
  return Math.round(value)
    .toString()
    .replace(/\B(?=(\d{3})+$)/g, ' ');
}

/** The same, never broken between number and unit. */
export function unbroken(text: string): string {
  return text.replace(/ /g, '\u00a0');
}

/** A metric's value in few characters. */
export function figure(value: number): string {
  if (!Number.isFinite(value)) {
    return String(value);
  }
  if (Number.isInteger(value) && Math.abs(value) < 1e7) {
    return String(value);
  }
  return Math.abs(value) >= 1e5 || Math.abs(value) < 1e-4 ? value.toExponential(2) : String(+value.toPrecision(4));
}

/** '46 m', '3 h 5 m', '2 d'. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) {
    return `${whole} s`;
  }
  const minutes = Math.round(whole / 60);
  if (minutes < 60) {
    return `${minutes} m`;
  }
  const hours = Math.floor(minutes / 60);
  if (hours < 48) {
    return minutes % 60 === 0 || hours >= 10 ? `${hours} h` : `${hours} h ${minutes % 60} m`;
  }
  return `${Math.round(hours / 24)} d`;
}

/** How long something took: '1.24 s', '1 m 12 s', '2 h 5 m'. */
export function took(seconds: number): string {
  if (seconds < 10) {
    return `${seconds.toFixed(seconds < 1 ? 2 : 1)} s`;
  }
  const whole = Math.round(seconds);
  return whole < 60 || whole >= 3600 ? duration(whole) : `${Math.floor(whole / 60)} m ${whole % 60} s`;
}

/** '3 m ago', 'in 5 h'. */
export function relative(time: string | number, now: number): string {
  const seconds = (new Date(time).getTime() - now) / 1000;
  if (Math.abs(seconds) < 5) {
    return 'now';
  }
  return seconds < 0 ? `${duration(-seconds)} ago` : `in ${duration(seconds)}`;
}

/** Date and time in the viewer's own zone. */
export function absolute(time: string | number): string {
  return new Date(time).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
}

/** A firing in the schedule's zone: 'Sun 22 Nov 06:00'. */
export function inZone(time: string, timezone: string): string {
  const parts = new Intl.DateTimeFormat('en-GB', {
    timeZone: timezone,
    weekday: 'short',
    day: '2-digit',
    month: 'short',
    hour: '2-digit',
    minute: '2-digit'
  });
  return parts.format(new Date(time)).replace(/,/g, '');
}

/** At most so many digits behind the point. */
export function trimmed(value: number, digits: number): string {
  return String(+value.toFixed(digits));
}
