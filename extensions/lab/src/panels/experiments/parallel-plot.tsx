import { useLayoutEffect, useRef, useState } from 'react';

import type { TrackedRun } from '../../api/mlflow';
import type { Labwright } from '../../context';
import { lineAt } from './colours';
import { parallelAxes, type Axis } from './parallel';

const [HEIGHT, TOP, BOTTOM, SIDE] = [272, 56, 28, 72];
const [NARROWEST, WIDEST] = [104, 220];

/** A line for each run over what was turned and what came of it. */
export function ParallelPlot({ lw, runs }: { lw: Labwright; runs: readonly TrackedRun[] }): JSX.Element {
  const { trans } = lw;
  const [looked, setLooked] = useState<number>();
  const host = useRef<HTMLDivElement>(null);
  const [room, setRoom] = useState(800);
  const axes = parallelAxes(runs);
  const drawn = axes.length > 1;
  useLayoutEffect(() => {
    if (host.current) {
      const resized = new ResizeObserver(([entry]) => entry && setRoom(entry.contentRect.width));
      resized.observe(host.current);
      return () => resized.disconnect();
    }
    return undefined;
  }, [drawn]);
  if (!drawn) {
    return <p className="lw-faint">{trans.__('Fewer than two parameters and metrics differ: there is nothing to draw.')}</p>;
  }
  const fits = (room - 2 * SIDE) / (axes.length - 1);
  const step = Math.min(WIDEST, Math.max(NARROWEST, fits));
  const width = SIDE * 2 + step * (axes.length - 1);
  const x = (at: number): number => SIDE + step * at;
  const names = runs.map(run => run.info.run_name).join(', ');
  return (
    <div ref={host} className="lw-grid-frame" tabIndex={0} role="region" aria-label={trans.__('Parallel coordinates')}>
      <svg
        className="lw-parallel"
        width={width}
        height={HEIGHT}
        role="img"
        aria-label={trans.__('%1 over %2', names, axes.map(axis => axis.key).join(', '))}
      >
        {axes.map((axis, at) => (
          <line key={axis.kind + axis.key} x1={x(at)} x2={x(at)} y1={TOP} y2={HEIGHT - BOTTOM} className="lw-axis" />
        ))}
        {runs.map((run, at) => (
          <polyline
            key={run.info.run_id}
            points={pointsOf(axes, at, x)}
            stroke={`var(${lineAt(at).colour})`}
            strokeDasharray={lineAt(at).dash.join(' ')}
            opacity={looked === undefined || looked === at ? 1 : 0.2}
            onMouseEnter={() => setLooked(at)}
            onMouseLeave={() => setLooked(undefined)}
          >
            <title>{run.info.run_name}</title>
          </polyline>
        ))}
        {axes.map((axis, at) => (
          <AxisLabels key={axis.kind + axis.key} axis={axis} x={x(at)} most={Math.floor(step / 7)} />
        ))}
      </svg>
      <ul className="lw-legend">
        {runs.map((run, at) => (
          <li key={run.info.run_id} onMouseEnter={() => setLooked(at)} onMouseLeave={() => setLooked(undefined)}>
            <svg width="24" height="8" aria-hidden="true">
              <line
                x1="0"
                x2="24"
                y1="4"
                y2="4"
                strokeWidth="2"
                stroke={`var(${lineAt(at).colour})`}
                strokeDasharray={lineAt(at).dash.join(' ')}
              />
            </svg>
            {run.info.run_name}
          </li>
        ))}
      </ul>
    </div>
  );
}

const y = (position: number): number => HEIGHT - BOTTOM - position * (HEIGHT - TOP - BOTTOM);

function pointsOf(axes: readonly Axis[], run: number, x: (at: number) => number): string {
  return axes
    .flatMap((axis, at) => {
      const position = axis.positions[run];
      return position === undefined ? [] : [`${x(at)},${y(position)}`];
    })
    .join(' ');
}

/** Drawn after the lines, so that it stays legible: the ends above and below the axis, what is between them beside it. */
function AxisLabels({ axis, x, most }: { axis: Axis; x: number; most: number }): JSX.Element {
  return (
    <g>
      <text x={x} y={16} textAnchor="middle" className="lw-axis-name">
        {clipped(axis.key, most)}
        <title>{axis.key}</title>
      </text>
      <text x={x} y={30} textAnchor="middle">
        {axis.kind}
      </text>
      {axis.ticks.map(tick => (
        <text key={tick.label} className="lw-tick" {...place(x, tick.position)}>
          {clipped(tick.label, most)}
        </text>
      ))}
    </g>
  );
}

function place(x: number, position: number): { x: number; y: number; textAnchor: 'middle' | 'start' } {
  if (position === 0 || position === 1) {
    return { x, y: y(position) + (position === 0 ? 16 : -8), textAnchor: 'middle' };
  }
  return { x: x + 6, y: y(position) + 4, textAnchor: 'start' };
}

const clipped = (text: string, most: number): string => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
