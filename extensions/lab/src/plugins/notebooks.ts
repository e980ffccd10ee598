import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { INotebookTracker } from '@jupyterlab/notebook';

import { Command, ILabwright, type Labwright } from '../context';
import { insertCell } from '../notebooks';

/** The command by which panels put cells into the notebook in front. */
export const notebooks: JupyterFrontEndPlugin<void> = {
  id: '@labwright/lab:notebooks',
  description: 'Inserts queries and client code into notebooks.',
  autoStart: true,
  requires: [ILabwright, INotebookTracker],
  activate: (app: JupyterFrontEnd, lw: Labwright, tracker: INotebookTracker): void => {
    app.commands.addCommand(Command.insertCell, {
      label: lw.trans.__('Insert a cell'),
      execute: args => insertCell(app, tracker, String(args.source ?? ''), args.run === true)
    });
  }
};
