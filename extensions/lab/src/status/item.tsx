import { ReactWidget } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';

import type { ServerStatus } from '../api/client';
import { absolute, bytes, money } from '../format';
import { useNow, useStore } from '../ui/states';
import { isUrgent, statusText, type StatusModel } from './model';

export class StatusItem extends ReactWidget {
  constructor(
    private readonly _model: StatusModel,
    private readonly _trans: TranslationBundle
  ) {
    super();
    this.addClass('lw-status');
    void _model.refresh();
  }

  override dispose(): void {
    this._model.dispose();
    super.dispose();
  }

  protected render(): JSX.Element {
    return <Item model={this._model} trans={this._trans} />;
  }
}

function Item({ model, trans }: { model: StatusModel; trans: TranslationBundle }): JSX.Element | null {
  const status = useStore(model).status.value;
  const now = useNow(15_000);
  if (status === undefined) {
    return null;
  }
  return (
    <span
      className={isUrgent(status, now) ? 'lw-status-text lw-mod-urgent' : 'lw-status-text'}
      title={explain(status, trans)}
      role="note"
      aria-label={trans.__('Server: %1', statusText(status, now))}
    >
      {statusText(status, now)}
    </span>
  );
}

function explain(status: ServerStatus, trans: TranslationBundle): string {
  const lines = [
    status.profile && trans.__('Profile %1', status.profile_name ?? status.profile),
    trans.__('Memory %1 used', bytes(status.memory_used_bytes)),
    status.price_per_hour !== null && trans.__('%1 an hour', money(status.price_per_hour, status.currency)),
    trans.__('Started %1', absolute(status.started)),
    status.idle_stops_at && trans.__('Stops when idle until %1', absolute(status.idle_stops_at)),
    ...status.budgets.map(notice => `${notice.message} ${notice.remedy}`),
    !status.core_available && trans.__('Cost is unknown until the core service answers.')
  ];
  return lines.filter(Boolean).join('\n');
}
