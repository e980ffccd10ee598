import type { JupyterFrontEndPlugin } from '@jupyterlab/application';
import { INotebookCellExecutor, runCell } from '@jupyterlab/notebook';

/**
 * Runs cells as Lab does, once the notebook's kernel is being started. Lab's own executor starts a second one when it
 * finds none yet; the two requests cancel each other, and the person is asked to select a kernel. It is switched off in
 * package.json.
 */
export const executor: JupyterFrontEndPlugin<INotebookCellExecutor> = {
  id: '@labwright/lab:cell-executor',
  description: 'Runs cells, after the start of the kernel.',
  autoStart: true,
  provides: INotebookCellExecutor,
  activate: (): INotebookCellExecutor =>
    Object.freeze({
      runCell: async (options: INotebookCellExecutor.IRunCellOptions) => {
        if (options.cell.model.type === 'code') {
          await options.sessionContext?.initialize();
        }
        return runCell(options);
      }
    })
};
