import { useEffect, useId, useRef } from 'react';

import type { ClusterRequest } from '../../api/models';
import type { Labwright } from '../../context';
import { bytes, unbroken } from '../../format';
import { ErrorNote, useStore } from '../../ui/states';
import type { ClustersModel } from './model';
import { MOST_WORKERS, room, sizes, totals, type StartModel } from './start-model';

interface Props {
  lw: Labwright;
  model: ClustersModel;
  start: StartModel;
}

const ENGINES: { engine: ClusterRequest['engine']; name: string }[] = [
  { engine: 'dask', name: 'Dask' },
  { engine: 'spark', name: 'Spark' }
];

/**
 * Asks for engine, workers and their size, with the price and what is left beside them. It has the focus whenever it
 * was asked for; Enter starts once the price is there, Escape closes.
 */
export function StartForm({ lw, model, start }: Props): JSX.Element {
  const { trans } = lw;
  const state = useStore(start);
  const id = useId();
  const engines = useRef<HTMLDivElement>(null);
  const { asked, engine, workers } = state;
  useEffect(() => engines.current?.querySelector<HTMLInputElement>(':checked')?.focus(), [asked]);
  const busy = model.state.busy.has(engine);
  const name = ENGINES.find(each => each.engine === engine)!.name;
  const submit = async (): Promise<void> => {
    if (await model.start(start.request())) {
      start.close();
    }
  };
  return (
    <form
      className="lw-card lw-start"
      aria-label={trans.__('Start a cluster')}
      onSubmit={event => {
        event.preventDefault();
        void submit();
      }}
      onKeyDown={event => {
        if (event.key === 'Escape') {
          event.stopPropagation();
          start.close();
        }
      }}
    >
      <div ref={engines} className="lw-choice" role="radiogroup" aria-label={trans.__('Engine')}>
        {ENGINES.map(each => (
          <label key={each.engine}>
            <input
              type="radio"
              name={`${id}-engine`}
              checked={engine === each.engine}
              onChange={() => start.change({ engine: each.engine })}
            />
            {each.name}
          </label>
        ))}
      </div>
      <div className="lw-field">
        <label htmlFor={`${id}-workers`}>{engine === 'dask' ? trans.__('Workers') : trans.__('Threads')}</label>
        <input
          id={`${id}-workers`}
          className="lw-input"
          type="number"
          required
          min={engine === 'dask' ? 0 : 1}
          max={MOST_WORKERS}
          value={Number.isNaN(workers) ? '' : workers}
          onChange={event => start.change({ workers: event.target.valueAsNumber })}
        />
      </div>
      <div className="lw-field">
        <label htmlFor={`${id}-size`}>{engine === 'dask' ? trans.__('Size of each') : trans.__('Size for each')}</label>
        <select
          id={`${id}-size`}
          className="lw-input"
          value={state.profile}
          onChange={event => start.change({ profile: event.target.value })}
        >
          {sizes(state.me.value).map(card => (
            <option key={card.slug} value={card.slug}>
              {`${card.name} · ${card.cpu} CPU · ${bytes(card.memory_bytes)}`}
            </option>
          ))}
        </select>
      </div>
      {state.me.problem && <ErrorNote trans={trans} problem={state.me.problem} retry={() => void start.refresh()} />}
      <Price lw={lw} start={start} />
      <div className="lw-actions">
        <button type="submit" className="lw-button lw-mod-primary" disabled={busy || start.isLoading}>
          {busy ? trans.__('Starting …') : trans.__('Start %1', name)}
        </button>
        <button type="button" className="lw-button" onClick={() => start.close()}>
          {trans.__('Cancel')}
        </button>
      </div>
    </form>
  );
}

function Price({ lw, start }: { lw: Labwright; start: StartModel }): JSX.Element | null {
  const { trans } = lw;
  const { me, workers } = start.state;
  const { card } = start;
  if (me.value === undefined || card === undefined || Number.isNaN(workers)) {
    return null;
  }
  const { left, short } = room(me.value, card, workers);
  const whose = card.group ?? trans.__('you');
  return (
    <div className="lw-price-line" aria-live="polite">
      <strong>{totals(card, workers, me.value.currency)}</strong>
      {left.length > 0 && <span className="lw-faint">{trans.__('Left for %1: %2', whose, left.map(unbroken).join(', '))}</span>}
      {short.length > 0 && (
        <span className="lw-field-error">
          {trans.__('This does not fit: only %1 left. Take fewer or smaller workers.', short.map(unbroken).join(', '))}
        </span>
      )}
    </div>
  );
}
