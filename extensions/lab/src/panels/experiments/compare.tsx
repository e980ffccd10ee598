import { useEffect, useRef, useState } from 'react';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';

import type { Metric, TrackedRun, Tracking } from '../../api/mlflow';
import type { Labwright } from '../../context';
import { figure } from '../../format';
import { LOADING, load, type Loadable } from '../../store';
import { Listing } from '../../ui/states';
import { alignSteps, diffParams, keysOf, metricOf, userOf } from './model';

export interface CompareProps {
  lw: Labwright;
  experiment: string;
  runs: readonly string[];
  tracking: Tracking;
}

// Lines are told apart by colour and dash; the colours are read from Lab's theme where it has them.
const COLOURS = ['--jp-brand-color1', '--jp-warn-color1', '--jp-success-color1', '--jp-error-color1', '--jp-info-color1'];
const DASHES = [[], [8, 4], [3, 3], [10, 3, 2, 3]];

export function Compare({ lw, experiment, runs, tracking }: CompareProps): JSX.Element {
  const { trans } = lw;
  const [found, setFound] = useState<Loadable<readonly TrackedRun[]>>(LOADING);
  const fetchRuns = async (): Promise<void> => {
    const loaded = await load(found, async () => {
      const all = await tracking.runs(experiment);
      return runs.flatMap(id => all.filter(run => run.info.run_id === id));
    });
    setFound(loaded);
  };
  useEffect(() => void fetchRuns(), [experiment, runs]);
  return (
    <div className="lw-view">
      <div className="lw-view-head">
        <h1>{trans.__('Compare %1 runs', runs.length)}</h1>
      </div>
      <Listing
        trans={trans}
        of={found}
        rows={10}
        isEmpty={value => value.length === 0}
        empty={<p>{trans.__('These runs are gone.')}</p>}
        retry={() => void fetchRuns()}
      >
        {value => (
          <>
            <MetricPlot lw={lw} runs={value} tracking={tracking} />
            <h2>{trans.__('Metrics')}</h2>
            <Matrix runs={value} rows={metricRows(value)} lw={lw} />
            <h2>{trans.__('Parameters')}</h2>
            <Parameters runs={value} lw={lw} />
          </>
        )}
      </Listing>
    </div>
  );
}

interface MatrixRow {
  key: string;
  values: (string | undefined)[];
  differs: boolean;
}

function metricRows(runs: readonly TrackedRun[]): MatrixRow[] {
  return keysOf(runs, 'metrics').map(key => {
    const values = runs.map(run => metricOf(run, key));
    return {
      key,
      values: values.map(value => (value === undefined ? undefined : figure(value))),
      differs: new Set(values).size > 1
    };
  });
}

/** Those that differ; the others on demand, since a fitted model logs dozens. */
function Parameters({ lw, runs }: { lw: Labwright; runs: readonly TrackedRun[] }): JSX.Element {
  const { trans } = lw;
  const [all, setAll] = useState(false);
  const rows = diffParams(runs);
  const equal = rows.filter(row => !row.differs).length;
  return (
    <>
      {equal > 0 && (
        <label className="lw-check">
          <input type="checkbox" checked={all} onChange={event => setAll(event.target.checked)} />
          {trans.__('Show the %1 that are equal too', equal)}
        </label>
      )}
      {!all && equal > 0 && equal === rows.length ? (
        <p className="lw-faint">{trans.__('All %1 are equal.', equal)}</p>
      ) : (
        <Matrix runs={runs} rows={all ? rows : rows.filter(row => row.differs)} lw={lw} />
      )}
    </>
  );
}

function Matrix({ lw, runs, rows }: { lw: Labwright; runs: readonly TrackedRun[]; rows: MatrixRow[] }): JSX.Element {
  if (rows.length === 0) {
    return <p className="lw-faint">{lw.trans.__('None.')}</p>;
  }
  return (
    <div className="lw-grid-frame" tabIndex={0} role="region" aria-label={lw.trans.__('Comparison')}>
      <table className="lw-grid">
        <thead>
          <tr>
            <td />
            {runs.map(run => (
              <th key={run.info.run_id} scope="col">
                {run.info.run_name}
                <span className="lw-type">{userOf(run)}</span>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map(row => (
            <tr key={row.key} data-differs={row.differs}>
              <th scope="row" title={row.key}>
                {row.key}
              </th>
              {row.values.map((value, at) => (
                <td key={at} title={value}>
                  {value ?? '–'}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function MetricPlot({ lw, runs, tracking }: { lw: Labwright; runs: readonly TrackedRun[]; tracking: Tracking }): JSX.Element {
  const { trans } = lw;
  const keys = keysOf(runs, 'metrics');
  const [metric, setMetric] = useState(keys[0] ?? '');
  const [histories, setHistories] = useState<Loadable<Metric[][]>>(LOADING);
  const fetchHistories = async (): Promise<void> => {
    setHistories(LOADING);
    const ask = (): Promise<Metric[][]> =>
      Promise.all(runs.map(run => (metricOf(run, metric) === undefined ? [] : tracking.history(run.info.run_id, metric))));
    setHistories(await load<Metric[][]>(LOADING, ask));
  };
  useEffect(() => void (metric && fetchHistories()), [metric, runs]);
  if (keys.length === 0) {
    return <p className="lw-faint">{trans.__('These runs have no metrics.')}</p>;
  }
  return (
    <section className="lw-plot" aria-label={trans.__('Metric plot')}>
      <label>
        {trans.__('Metric')}{' '}
        <select className="lw-input" value={metric} onChange={event => setMetric(event.target.value)}>
          {keys.map(key => (
            <option key={key}>{key}</option>
          ))}
        </select>
      </label>
      <Listing
        trans={trans}
        of={histories}
        rows={6}
        isEmpty={() => false}
        empty={null}
        retry={() => void fetchHistories()}
      >
        {value =>
          value.some(points => points.length > 1) ? (
            <Curves runs={runs} histories={value} metric={metric} />
          ) : (
            <Bars runs={runs} metric={metric} />
          )
        }
      </Listing>
    </section>
  );
}

/** One value a run: bars, with the value beside each. */
function Bars({ runs, metric }: { runs: readonly TrackedRun[]; metric: string }): JSX.Element {
  const values = runs.map(run => metricOf(run, metric));
  const most = Math.max(...values.map(value => Math.abs(value ?? 0)), Number.MIN_VALUE);
  return (
    <table className="lw-bars">
      <tbody>
        {runs.map((run, at) => {
          const value = values[at];
          const width = `${(Math.abs(value ?? 0) / most) * 100}%`;
          return (
            <tr key={run.info.run_id}>
              <th scope="row">{run.info.run_name}</th>
              <td>
                <div className="lw-bar" style={{ width, background: `var(${COLOURS[at % COLOURS.length]})` }} />
              </td>
              <td className="lw-mod-number">{value === undefined ? '–' : figure(value)}</td>
            </tr>
          );
        })}
      </tbody>
    </table>
  );
}

interface CurvesProps {
  runs: readonly TrackedRun[];
  histories: readonly Metric[][];
  metric: string;
}

/** Curves over the steps; drawn again when the width or the theme changes. */
function Curves({ runs, histories, metric }: CurvesProps): JSX.Element {
  const host = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const node = host.current!;
    let plot: uPlot | undefined;
    const draw = (): void => {
      plot?.destroy();
      plot = new uPlot(plotOptions(node, runs, metric), alignSteps(histories) as uPlot.AlignedData, node);
    };
    draw();
    const resized = new ResizeObserver(() => plot?.setSize({ width: node.clientWidth, height: 280 }));
    resized.observe(node);
    const themed = new MutationObserver(draw);
    themed.observe(document.body, { attributes: true, attributeFilter: ['data-jp-theme-name', 'data-jp-theme-light'] });
    return () => {
      resized.disconnect();
      themed.disconnect();
      plot?.destroy();
    };
  }, [runs, histories, metric]);
  return <div ref={host} className="lw-curves" role="img" aria-label={`${metric}: ${runs.map(run => run.info.run_name).join(', ')}`} />;
}

function plotOptions(node: HTMLElement, runs: readonly TrackedRun[], metric: string): uPlot.Options {
  const style = getComputedStyle(node);
  const read = (name: string): string => style.getPropertyValue(name).trim() || '#888';
  const text = read('--jp-ui-font-color1');
  const grid = { stroke: read('--jp-border-color2'), width: 1 };
  const axis = { stroke: text, grid, ticks: grid, font: `11px ${read('--jp-ui-font-family')}` };
  return {
    width: node.clientWidth,
    height: 280,
    scales: { x: { time: false } },
    axes: [
      { ...axis, label: 'step', labelSize: 20 },
      { ...axis, label: metric, labelSize: 20, size: 64, values: (_, splits) => splits.map(figure) }
    ],
    series: [
      { label: 'step' },
      ...runs.map((run, at) => ({
        label: run.info.run_name,
        stroke: read(COLOURS[at % COLOURS.length] ?? ''),
        dash: DASHES[Math.floor(at / COLOURS.length) % DASHES.length],
        width: 2,
        spanGaps: true,
        value: (_: uPlot, value: number | null) => (value === null ? '–' : figure(value))
      }))
    ]
  };
}
