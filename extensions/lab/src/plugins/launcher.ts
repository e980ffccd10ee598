import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette, Notification } from '@jupyterlab/apputils';
import { ILauncher } from '@jupyterlab/launcher';
import type { Contents } from '@jupyterlab/services';

import { asProblem } from '../api/problem';
import { Command, ILabwright, type Labwright } from '../context';
import { welcomeIcon } from '../icons';
import { CATEGORY } from './panels';

const WELCOME = 'Welcome.ipynb';

/** The cards in the launcher, and the Welcome notebook. */
export const launcher: JupyterFrontEndPlugin<void> = {
  id: '@labwright/lab:launcher',
  description: 'Launcher cards.',
  autoStart: true,
  requires: [ILabwright],
  optional: [ILauncher, ICommandPalette],
  activate: (
    app: JupyterFrontEnd,
    lw: Labwright,
    launcher: ILauncher | null,
    palette: ICommandPalette | null
  ): void => {
    app.commands.addCommand(Command.welcome, {
      label: args =>
        args.isLauncher ? lw.trans.__('Welcome notebook') : lw.trans.__('Labwright: Open the Welcome notebook'),
      caption: lw.trans.__('From data to a scheduled model in one notebook'),
      icon: args => (args.isPalette ? undefined : welcomeIcon),
      execute: () => openWelcome(app, lw)
    });
    palette?.addItem({ command: Command.welcome, category: CATEGORY, args: { isPalette: true } });
    const cards = [Command.welcome, Command.showData, Command.showClusters, Command.showExperiments, Command.showJobs];
    cards.forEach((command, rank) =>
      launcher?.add({ command, category: CATEGORY, rank, args: { isLauncher: true } })
    );
  }
};

/** Open the person's copy; it is made at the first time and never overwritten. */
async function openWelcome(app: JupyterFrontEnd, lw: Labwright): Promise<void> {
  const { contents } = app.serviceManager;
  try {
    await contents.get(WELCOME, { content: false }).catch(async () => {
      const content = await lw.api.welcome();
      const model: Partial<Contents.IModel> = { type: 'notebook', format: 'json', content };
      await contents.save(WELCOME, model);
    });
    await app.commands.execute('docmanager:open', { path: WELCOME });
  } catch (error) {
    const problem = asProblem(error);
    Notification.error(`${problem.message} ${problem.remedy}`.trim());
  }
}
