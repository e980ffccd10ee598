import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { INotebookTracker, type NotebookPanel } from '@jupyterlab/notebook';

/**
 * Starts the kernel of a notebook that was opened for a named one, such as a new notebook from the launcher, while the
 * document is still on its way. Lab starts it when document and checkpoints are there, half a second later.
 */
export const kernels: JupyterFrontEndPlugin<void> = {
  id: '@labwright/lab:early-kernels',
  description: 'Starts kernels while their notebooks open.',
  autoStart: true,
  requires: [INotebookTracker],
  activate: (_app: JupyterFrontEnd, notebooks: INotebookTracker): void => {
    notebooks.widgetAdded.connect((_, panel) => void startEarly(panel));
  }
};

async function startEarly(panel: NotebookPanel): Promise<void> {
  const { context, sessionContext } = panel;
  // Else the document says which kernel it wants.
  if (context.isReady || !sessionContext.kernelPreference.name) {
    return;
  }
  await sessionContext.initialize();
  if (!context.isReady) {
    await context.ready;
    await describeKernel(panel);
  }
}

/** Writes the kernel into a document that came after it; the panel wrote it into what the document has replaced. */
async function describeKernel(panel: NotebookPanel): Promise<void> {
  const kernel = panel.sessionContext.session?.kernel;
  const [spec, info] = await Promise.all([kernel?.spec, kernel?.info]);
  if (kernel && !panel.isDisposed && panel.model) {
    const { display_name, language } = spec ?? { display_name: kernel.name };
    panel.model.setMetadata('kernelspec', { name: kernel.name, display_name, language });
    panel.model.setMetadata('language_info', info?.language_info);
  }
}
