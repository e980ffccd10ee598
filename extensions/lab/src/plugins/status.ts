import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { IStatusBar } from '@jupyterlab/statusbar';

import { ILabwright, type Labwright } from '../context';
import { StatusItem } from '../status/item';
import { StatusModel } from '../status/model';

export const status: JupyterFrontEndPlugin<void> = {
  id: '@labwright/lab:status',
  description: 'Profile, memory, cost and idle stop in the status bar.',
  autoStart: true,
  requires: [ILabwright],
  optional: [IStatusBar],
  activate: (_app: JupyterFrontEnd, lw: Labwright, bar: IStatusBar | null): void => {
    bar?.registerStatusItem('@labwright/lab:status', {
      item: new StatusItem(new StatusModel(lw.api), lw.trans),
      align: 'right',
      rank: 900
    });
  }
};
