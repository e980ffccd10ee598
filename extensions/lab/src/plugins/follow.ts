import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { Notification } from '@jupyterlab/apputils';
import type { DocumentRegistry } from '@jupyterlab/docregistry';
import { INotebookTracker } from '@jupyterlab/notebook';

import { asProblem } from '../api/problem';
import { ILabwright, type Labwright } from '../context';
import { sendSnapshot } from '../snapshot';

/** Sends a new snapshot to each job that follows a notebook when the notebook is saved: core cannot read homes. */
export const follow: JupyterFrontEndPlugin<void> = {
  id: '@labwright/lab:follow',
  description: 'Keeps jobs that follow a notebook up to date.',
  autoStart: true,
  requires: [ILabwright, INotebookTracker],
  activate: (app: JupyterFrontEnd, lw: Labwright, tracker: INotebookTracker): void => {
    tracker.widgetAdded.connect((_, panel) => {
      const { context } = panel;
      const saved = (_: unknown, state: DocumentRegistry.SaveState): void => {
        if (state === 'completed') {
          const path = app.serviceManager.contents.localPath(context.path);
          const content = context.model.toJSON() as unknown as Record<string, unknown>;
          sendSnapshot(lw.api, path, content).catch((error: unknown) => {
            const what = lw.trans.__('The job that follows %1 did not get this version.', path);
            Notification.warning(`${what} ${asProblem(error).sentences}`);
          });
        }
      };
      context.saveState.connect(saved);
      panel.disposed.connect(() => context.saveState.disconnect(saved));
    });
  }
};
