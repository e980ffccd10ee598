import { useEffect, useRef, useState } from 'react';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';

import { MOST_POINTS, type Metric, type TrackedRun, type Tracking } from '../../api/mlflow';
import type { Labwright } from '../../context';
import { figure } from '../../format';
import { LOADING, load, type Loadable } from '../../store';
import { Listing } from '../../ui/states';
import { lineAt } from './colours';
import { alignSteps, areSampled, keysOf, metricOf } from './model';

/** One metric of all runs: curves over the steps, or bars where each has one value. */
export function MetricPlot({ lw, runs, tracking }: { lw: Labwright; runs: readonly TrackedRun[]; tracking: Tracking }): JSX.Element {
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
            <>
              <Curves runs={runs} histories={value} metric={metric} />
              {areSampled(value) && (
                <p className="lw-cut">
                  {trans.__('Of a curve with more points, %1 evenly over all steps are shown.', MOST_POINTS)}
                </p>
              )}
            </>
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
                <div className="lw-bar" style={{ width, background: `var(${lineAt(at).colour})` }} />
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
        stroke: read(lineAt(at).colour),
        dash: lineAt(at).dash,
        width: 2,
        spanGaps: true,
        value: (_: uPlot, value: number | null) => (value === null ? '–' : figure(value))
      }))
    ]
  };
}
