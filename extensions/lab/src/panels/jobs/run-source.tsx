import type { Labwright } from '../../context';
import { Diff } from '../../ui/diff';
import { Listing } from '../../ui/states';
import type { Base, RunModel } from './run-model';

interface Props {
  lw: Labwright;
  model: RunModel;
}

/** The notebook as the run got it, and what differs from the file or from another run. */
export function Source({ lw, model }: Props): JSX.Element {
  const { trans } = lw;
  const { base, diff, others, run } = model.state;
  const value = typeof base === 'string' ? base : base.run;
  const choose = (chosen: string): void => {
    const next: Base = chosen === 'file' || chosen === 'nothing' ? chosen : { run: chosen };
    void model.compareWith(next);
  };
  return (
    <section aria-label={trans.__('Source')}>
      <p className="lw-source-head">
        <label>
          {trans.__('Compare with')}{' '}
          <select className="lw-input" value={value} onChange={event => choose(event.target.value)}>
            <option value="file">{trans.__('the notebook as it is now')}</option>
            {others.map(other => (
              <option key={other.id} value={other.id}>
                {trans.__('run %1', other.number)}
                {other.source_digest === run.value?.source_digest ? ` · ${trans.__('same source')}` : ''}
              </option>
            ))}
            <option value="nothing">{trans.__('nothing: show all of it')}</option>
          </select>
        </label>
        <span className="lw-faint" title={run.value?.source_digest}>
          {run.value?.notebook_path} · {run.value?.source_digest.replace('sha256:', '').slice(0, 12)}
        </span>
      </p>
      <Listing
        trans={trans}
        of={diff}
        rows={10}
        isEmpty={lines => lines.length === 0}
        empty={
          <p>
            {base === 'file'
              ? trans.__('The notebook is as it was when this run began.')
              : trans.__('Both runs had the same source.')}
          </p>
        }
        retry={() => void model.compareWith(base)}
      >
        {lines => (
          <>
            {base !== 'nothing' && (
              <p className="lw-faint">
                {base === 'file'
                  ? trans.__('− as this run had it, + as the notebook is now')
                  : trans.__('− as the other run had it, + as this run had it')}
              </p>
            )}
            <Diff trans={trans} lines={lines} />
          </>
        )}
      </Listing>
    </section>
  );
}
