import type { Run } from '../../api/models';
import type { Labwright } from '../../context';
import { absolute, bytes, bytesOf, money, took, trimmed } from '../../format';
import { useNow } from '../../ui/states';
import { isFinal, seconds } from './model';
import { cellTimes, type CellTime } from './output-cells';
import type { RunModel } from './run-model';

interface Props {
  lw: Labwright;
  model: RunModel;
  run: Run;
}

/** What the run took, where its time went, and where it came from. */
export function Resources({ lw, model, run }: Props): JSX.Element {
  const { trans } = lw;
  const now = useNow(isFinal(run) ? 60_000 : 1_000);
  const { profile } = model;
  const currency = model.state.me?.currency;
  const lasted = seconds(run, now);
  const memory = run.peak_memory_bytes;
  const limit = profile?.memory_bytes ?? null;
  const cores = lasted && run.cpu_seconds !== null ? run.cpu_seconds / lasted : undefined;
  return (
    <>
      <div className="lw-tiles">
        <Tile label={trans.__('Took')} value={lasted === undefined ? '–' : took(lasted)}>
          {waited(run) > 1 && trans.__('after %1 in the queue', took(waited(run)))}
        </Tile>
        <Tile label={trans.__('Peak memory')} value={memory === null ? '–' : bytesOf(memory, limit)}>
          {memory !== null && limit !== null && (
            <meter
              min={0}
              max={limit}
              high={limit * 0.9}
              value={memory}
              aria-label={trans.__('Of the memory of %1', profile?.name ?? run.profile)}
            />
          )}
        </Tile>
        <Tile label={trans.__('CPU time')} value={run.cpu_seconds === null ? '–' : took(run.cpu_seconds)}>
          {cores !== undefined &&
            trans.__('%1 of %2 CPU on average', trimmed(cores, 1), profile?.cpu ?? trans.__('its'))}
        </Tile>
        <Tile label={trans.__('Cost')} value={money(run.cost, currency)}>
          {profile && `${profile.name} · ${money(profile.price_per_hour, currency)}/h`}
        </Tile>
      </div>
      <CellTimes lw={lw} times={cellTimes(model.state.notebook.value ?? {})} />
      <h2>{trans.__('Where it came from')}</h2>
      <Origin lw={lw} run={run} />
    </>
  );
}

const waited = (run: Run): number => (run.started === null ? 0 : (Date.parse(run.started) - Date.parse(run.created)) / 1000);

function Tile({ label, value, children }: { label: string; value: string; children?: React.ReactNode }): JSX.Element {
  return (
    <div className="lw-tile">
      <span className="lw-faint">{label}</span>
      <strong>{value}</strong>
      <span className="lw-faint">{children}</span>
    </div>
  );
}

/** The cells that took the longest, as bars; a cell is found again by its number in the output. */
function CellTimes({ lw, times }: { lw: Labwright; times: readonly CellTime[] }): JSX.Element | null {
  const { trans } = lw;
  const longest = [...times].sort((a, b) => b.seconds - a.seconds).slice(0, 10);
  const most = longest[0]?.seconds ?? 0;
  if (most === 0) {
    return null;
  }
  return (
    <section aria-label={trans.__('Time by cell')}>
      <h2>{trans.__('Where the time went')}</h2>
      <table className="lw-bars">
        <tbody>
          {longest.map(cell => (
            <tr key={cell.at}>
              <th scope="row" title={cell.source}>
                <code>{cell.prompt}</code> {cell.firstLine}
              </th>
              <td>
                <div className="lw-bar lw-mod-plain" style={{ width: `${(cell.seconds / most) * 100}%` }} />
              </td>
              <td className="lw-mod-number">{took(cell.seconds)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

function Origin({ lw, run }: { lw: Labwright; run: Run }): JSX.Element {
  const { trans } = lw;
  const rows: [string, string | null][] = [
    [trans.__('Notebook'), run.notebook_path],
    [trans.__('Owner'), run.owner],
    [trans.__('Started by'), run.trigger === 'schedule' ? trans.__('its schedule') : trans.__('a person or program')],
    [trans.__('For the firing of'), run.slot && absolute(run.slot)],
    [trans.__('Asked'), absolute(run.created)],
    [trans.__('Started'), run.started && absolute(run.started)],
    [trans.__('Finished'), run.finished && absolute(run.finished)],
    [trans.__('Attempt'), String(run.attempt)],
    [trans.__('Peak memory'), run.peak_memory_bytes === null ? null : bytes(run.peak_memory_bytes)],
    [trans.__('Source'), run.source_digest],
    [trans.__('Run id'), run.id]
  ];
  return (
    <dl className="lw-facts lw-mod-wide">
      {rows
        .filter(([, value]) => value)
        .map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
    </dl>
  );
}
