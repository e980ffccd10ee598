import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { Dialog, Notification, showDialog } from '@jupyterlab/apputils';
import { IStatusBar } from '@jupyterlab/statusbar';

import type { BudgetNotice } from '../api/models';
import { ILabwright, type Labwright } from '../context';
import { StatusItem } from '../status/item';
import { StatusModel } from '../status/model';

export const status: JupyterFrontEndPlugin<void> = {
  id: '@labwright/lab:status',
  description: 'Profile, memory, cost, idle stop and budgets in the status bar.',
  autoStart: true,
  requires: [ILabwright],
  optional: [IStatusBar],
  activate: (_app: JupyterFrontEnd, lw: Labwright, bar: IStatusBar | null): void => {
    if (!bar) {
      return;
    }
    const model = new StatusModel(lw.api);
    model.notices.connect((_, notice) => tell(lw, notice));
    bar.registerStatusItem('@labwright/lab:status', {
      item: new StatusItem(model, lw.trans),
      align: 'right',
      rank: 900
    });
  }
};

/** What happened, with the rest behind a button: Lab cuts a notification at 140 characters. */
function tell(lw: Labwright, { threshold, message, remedy }: BudgetNotice): void {
  const explain = (): void => {
    void showDialog({ title: message, body: remedy, buttons: [Dialog.okButton()] });
  };
  const notify = threshold === 100 ? Notification.error : Notification.warning;
  notify(message, { autoClose: false, actions: [{ label: lw.trans.__('What now?'), callback: explain }] });
}
