import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { Notification, type ISessionContext } from '@jupyterlab/apputils';
import { INotebookTracker } from '@jupyterlab/notebook';
import type { Kernel } from '@jupyterlab/services';

import { ILabwright, type Labwright } from '../context';

/** Says why a kernel died, where Lab only says that it did. */
export const deaths: JupyterFrontEndPlugin<void> = {
  id: '@labwright/lab:deaths',
  description: 'Says why a kernel died, and what to do.',
  autoStart: true,
  requires: [ILabwright, INotebookTracker],
  activate: (_app: JupyterFrontEnd, lw: Labwright, notebooks: INotebookTracker): void => {
    notebooks.widgetAdded.connect((_, panel) => {
      panel.sessionContext.statusChanged.connect((context, status) => {
        void tell(lw, context, status);
      });
    });
  }
};

async function tell(lw: Labwright, context: ISessionContext, status: Kernel.Status): Promise<void> {
  const kernel = context.session?.kernel;
  if (!kernel || (status !== 'autorestarting' && status !== 'dead')) {
    return;
  }
  // Without a reason Lab's own dialog is all there is to say.
  const { reason } = await lw.api.kernelDeath(kernel.id).catch(() => ({ reason: null }));
  if (reason) {
    Notification.error(`${context.name}: ${reason}`, { autoClose: false });
  }
}
