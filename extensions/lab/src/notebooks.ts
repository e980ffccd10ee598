import type { JupyterFrontEnd } from '@jupyterlab/application';
import { NotebookActions, type INotebookTracker, type NotebookPanel } from '@jupyterlab/notebook';

/** Put a cell below the active one of the notebook in front, or of a new notebook, and run it when asked to. */
export async function insertCell(
  app: JupyterFrontEnd,
  tracker: INotebookTracker,
  source: string,
  run: boolean
): Promise<void> {
  const panel = tracker.currentWidget ?? (await createNotebook(app, tracker));
  if (panel === null) {
    return;
  }
  app.shell.activateById(panel.id);
  await panel.context.ready;
  const { content } = panel;
  const active = content.activeCell;
  const reusable = active?.model.type === 'code' && active.model.sharedModel.getSource().trim() === '';
  if (!reusable) {
    NotebookActions.insertBelow(content);
  }
  content.activeCell?.model.sharedModel.setSource(source);
  content.mode = 'command';
  if (run) {
    await panel.sessionContext.ready;
    await NotebookActions.run(content, panel.sessionContext);
  }
}

async function createNotebook(app: JupyterFrontEnd, tracker: INotebookTracker): Promise<NotebookPanel | null> {
  const kernelName = app.serviceManager.kernelspecs.specs?.default;
  const made: unknown = await app.commands.execute('notebook:create-new', { kernelName, activate: true });
  return tracker.find(panel => panel === made) ?? tracker.currentWidget;
}
