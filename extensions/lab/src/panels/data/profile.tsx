import type { ColumnProfile } from '../../api/models';
import type { Labwright } from '../../context';
import { count, figure } from '../../format';

interface Props {
  lw: Labwright;
  profile: ColumnProfile;
}

/** What is in a column: numbers as a histogram, the rest by its most common values, and what is missing. */
export function ProfileView({ lw, profile }: Props): JSX.Element {
  return (
    <div className="lw-profile-view">
      {profile.bins.length > 0 ? <Histogram lw={lw} profile={profile} /> : <Common profile={profile} />}
      <p className="lw-faint">{summary(profile, lw).join(' · ')}</p>
    </div>
  );
}

/** 'no nulls', '571 values', 'mean 6.895': as much as is known. */
export function summary(profile: ColumnProfile, { trans }: Pick<Labwright, 'trans'>): string[] {
  const { nulls, rows, distinct, least, greatest, mean, bins } = profile;
  const share = (100 * nulls) / rows;
  const known = [
    nulls === 0
      ? trans.__('no nulls')
      : trans.__('%1 null (%2 %)', count(nulls), share < 0.1 ? '< 0.1' : String(+share.toFixed(1)))
  ];
  if (typeof distinct === 'number') {
    known.push(distinct === 1 ? trans.__('1 value') : trans.__('%1 values', count(distinct)));
  }
  if (typeof mean === 'number') {
    known.push(trans.__('mean %1', figure(mean)));
  }
  if (bins.length === 0 && least !== null && least !== undefined && least !== greatest) {
    known.push(`${shown(least)} – ${shown(greatest)}`);
  }
  return known;
}

export function shown(value: unknown): string {
  if (typeof value === 'number') {
    return figure(value);
  }
  if (typeof value === 'string' && /^\d{4}-\d\d-\d\dT\d\d:\d\d/.test(value)) {
    return value.slice(0, 16).replace('T', ' ');
  }
  return value === '' ? "''" : typeof value === 'string' ? value : JSON.stringify(value);
}

const [WIDTH, HEIGHT] = [200, 40];

function Histogram({ lw, profile }: Props): JSX.Element {
  const { bins, least, greatest } = profile;
  const most = Math.max(...bins.map(bin => bin.rows), 1);
  const step = WIDTH / bins.length;
  return (
    <>
      <svg
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        preserveAspectRatio="none"
        role="img"
        aria-label={lw.trans.__('Histogram from %1 to %2', shown(least), shown(greatest))}
      >
        {bins.map((bin, at) => {
          // A bin that has any rows is seen, however few they are.
          const height = bin.rows === 0 ? 0 : Math.max(1, (bin.rows / most) * HEIGHT);
          return (
            <rect key={at} x={at * step} y={HEIGHT - height} width={step * 0.9} height={height}>
              <title>
                {lw.trans.__('%1 to %2: %3 rows', figure(bin.start), figure(bin.end), count(bin.rows))}
              </title>
            </rect>
          );
        })}
      </svg>
      <p className="lw-ends">
        <span>{shown(least)}</span>
        <span>{shown(greatest)}</span>
      </p>
    </>
  );
}

function Common({ profile }: { profile: ColumnProfile }): JSX.Element | null {
  const most = profile.common[0]?.rows ?? 0;
  if (most <= 1) {
    return null;
  }
  return (
    <ul className="lw-common">
      {profile.common.map(({ value, rows }, at) => (
        <li key={at} title={`${shown(value)}: ${count(rows)}`}>
          <span>{shown(value)}</span>
          <span className="lw-number">{count(rows)}</span>
          <span className="lw-share" style={{ width: `${(100 * rows) / most}%` }} />
        </li>
      ))}
    </ul>
  );
}
