import { Dialog, InputDialog, showDialog } from '@jupyterlab/apputils';
import { PageConfig } from '@jupyterlab/coreutils';
import { useEffect, useRef } from 'react';

import type { Cluster } from '../../api/models';
import { Command, type Labwright } from '../../context';
import { absolute, bytes, bytesOf, duration, money, relative } from '../../format';
import { Header } from '../../ui/panel';
import { Ago, ErrorNote, Listing, State, useNow, useStore } from '../../ui/states';
import { linePoints, seenSeconds, type Seen } from './activity';
import { clientCode, type ClustersModel } from './model';
import { StartForm } from './start';
import type { StartModel } from './start-model';

interface Props {
  lw: Labwright;
  model: ClustersModel;
}

export function ClustersPanel({ lw, model, start }: Props & { start: StartModel }): JSX.Element {
  const { trans } = lw;
  const state = useStore(model);
  const asking = useStore(start).asked > 0;
  const button = useRef<HTMLButtonElement>(null);
  useEffect(() => void model.refresh(), [model]);
  useEffect(() => (asking ? () => takeLostFocus(button.current) : undefined), [asking]);
  const ask = (
    <button ref={button} className="lw-button lw-mod-primary" aria-expanded={asking} onClick={() => void start.ask()}>
      {trans.__('New cluster')}
    </button>
  );
  const some = (state.clusters.value ?? []).length > 0;
  return (
    <>
      <Header title={trans.__('Clusters')} trans={trans} onRefresh={() => void model.refresh()}>
        {some && !asking && ask}
      </Header>
      <div className="lw-scroll lw-pad">
        {state.problem && (
          <ErrorNote trans={trans} problem={state.problem} retry={() => (model.forget(), void model.refresh())} />
        )}
        {asking && <StartForm lw={lw} model={model} start={start} />}
        <Listing
          trans={trans}
          of={state.clusters}
          isEmpty={value => value.length === 0}
          retry={() => void model.refresh()}
          empty={
            asking ? null : (
              <>
                <p>{trans.__('No cluster runs. Start one for work that needs more than this server.')}</p>
                {ask}
              </>
            )
          }
        >
          {clusters => (
            <ul className="lw-cards" aria-label={trans.__('Clusters')}>
              {clusters.map(cluster => (
                <ClusterCard key={cluster.id} lw={lw} model={model} cluster={cluster} />
              ))}
            </ul>
          )}
        </Listing>
      </div>
    </>
  );
}

/** The focus of what has just gone, unless it went on to something else before. */
function takeLostFocus(element: HTMLElement | null): void {
  if (document.activeElement === document.body) {
    element?.focus();
  }
}

function ClusterCard({ lw, model, cluster }: Props & { cluster: Cluster }): JSX.Element {
  const { trans } = lw;
  const now = useNow(15_000);
  const running = cluster.state === 'running';
  const busy = model.state.busy.has(cluster.id);
  const insert = (): void => {
    void lw.commands.execute(Command.insertCell, { source: clientCode(cluster), run: true });
  };
  return (
    <li className="lw-card" aria-label={cluster.name}>
      <div className="lw-card-head">
        <strong title={cluster.name}>{cluster.name}</strong>
        <State state={cluster.state} text={trans.__(cluster.state)} />
      </div>
      <dl className="lw-facts">
        <dt>{trans.__('Engine')}</dt>
        <dd>{cluster.engine === 'dask' ? 'Dask' : 'Spark'}</dd>
        <dt>{trans.__('Workers')}</dt>
        <dd>
          {cluster.workers}/{cluster.workers_wanted}
          {cluster.workers < cluster.workers_wanted && cluster.state !== 'failed' && (
            <progress max={cluster.workers_wanted} value={cluster.workers} aria-label={trans.__('Workers ready')} />
          )}
        </dd>
        <dt>{trans.__('Memory')}</dt>
        <dd>
          {cluster.memory_used_bytes === null
            ? bytes(cluster.memory_bytes)
            : bytesOf(cluster.memory_used_bytes, cluster.memory_bytes)}
          <ActivityLine lw={lw} cluster={cluster} seen={model.state.activity[cluster.id] ?? []} />
        </dd>
        <dt>{trans.__('Cost')}</dt>
        <dd>
          {money(cluster.cost, cluster.currency)} · {money(cluster.price_per_hour, cluster.currency)}/h
        </dd>
        {cluster.idle_stops_at && (
          <>
            <dt>{trans.__('Idle stop')}</dt>
            <dd title={absolute(cluster.idle_stops_at)}>{relative(cluster.idle_stops_at, now)}</dd>
          </>
        )}
        <dt>{trans.__('Started')}</dt>
        <dd>
          <Ago time={cluster.created} />
        </dd>
      </dl>
      {cluster.reason && <p className="lw-reason">{cluster.reason}</p>}
      <div className="lw-actions">
        {running && (
          <button className="lw-button" onClick={insert} title={clientCode(cluster)}>
            {trans.__('Inject client code')}
          </button>
        )}
        {running && cluster.dashboard_url && (
          <a className="lw-button" href={dashboardUrl(cluster)} target="_blank" rel="noopener noreferrer">
            {trans.__('Dashboard')}
          </a>
        )}
        {running && cluster.engine === 'dask' && (
          <button className="lw-button" disabled={busy} onClick={() => void askScale(lw, model, cluster)}>
            {trans.__('Scale')}
          </button>
        )}
        <button
          className="lw-button lw-mod-danger"
          disabled={busy || cluster.state === 'stopping'}
          onClick={() => void askStop(lw, model, cluster)}
        >
          {cluster.state === 'failed' ? trans.__('Remove') : trans.__('Stop')}
        </button>
      </div>
    </li>
  );
}

function ActivityLine({ lw, cluster, seen }: { lw: Labwright; cluster: Cluster; seen: readonly Seen[] }): JSX.Element | null {
  const watched = seenSeconds(seen);
  if (watched < 30) {
    return null;
  }
  const [width, height] = [96, 18];
  return (
    <svg
      className="lw-activity"
      width={width}
      height={height}
      role="img"
      aria-label={lw.trans.__('Memory in the last %1', duration(watched))}
    >
      <title>{lw.trans.__('Memory in the last %1', duration(watched))}</title>
      <polyline points={linePoints(seen, cluster.memory_bytes, width, height)} />
    </svg>
  );
}

/** The dashboard through this server, which adds the person's token. */
function dashboardUrl(cluster: Cluster): string {
  const page = cluster.engine === 'dask' ? 'status' : '';
  return `${PageConfig.getBaseUrl()}labwright/clusters/${encodeURIComponent(cluster.id)}/dashboard/${page}`;
}

async function askScale(lw: Labwright, model: ClustersModel, cluster: Cluster): Promise<void> {
  const each = cluster.workers_wanted > 0 ? cluster.price_per_hour / cluster.workers_wanted : undefined;
  const price = each === undefined ? '' : ` · ${money(each, cluster.currency)}/h ${lw.trans.__('each')}`;
  const answer = await InputDialog.getNumber({
    title: lw.trans.__('Scale %1', cluster.name),
    label: lw.trans.__('Workers (0 to 256)') + price,
    value: cluster.workers_wanted,
    okLabel: lw.trans.__('Scale')
  });
  if (answer.button.accept && answer.value !== null) {
    await model.scale(cluster.id, Math.min(256, Math.max(0, Math.round(answer.value))));
  }
}

async function askStop(lw: Labwright, model: ClustersModel, cluster: Cluster): Promise<void> {
  const { trans } = lw;
  const answer = await showDialog({
    title: trans.__('Stop %1?', cluster.name),
    body: trans.__('What its workers hold in memory is lost. Results that came back to your notebooks stay.'),
    buttons: [Dialog.cancelButton(), Dialog.warnButton({ label: trans.__('Stop') })]
  });
  if (answer.button.accept) {
    await model.stop(cluster.id);
  }
}
