import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette, Notification } from '@jupyterlab/apputils';
import { ILauncher } from '@jupyterlab/launcher';
import type { Contents } from '@jupyterlab/services';
import { notebookIcon } from '@jupyterlab/ui-components';

import { asProblem } from '../api/problem';
import { Command, ILabwright, type Labwright } from '../context';
import { welcomeIcon } from '../icons';
import { CATEGORY } from './panels';

const WELCOME = 'Welcome.ipynb';
const FOLDER = 'examples';
const EXAMPLE = 'late_flights.ipynb';

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
      execute: () => open(app, lw, WELCOME)
    });
    app.commands.addCommand(Command.example, {
      label: args => (args.isLauncher ? lw.trans.__('Example model') : lw.trans.__('Labwright: Open the example model')),
      caption: lw.trans.__('Query, fit, track, register: which flights are late?'),
      icon: args => (args.isPalette ? undefined : notebookIcon),
      execute: () => open(app, lw, `${FOLDER}/${EXAMPLE}`)
    });
    for (const command of [Command.welcome, Command.example]) {
      palette?.addItem({ command, category: CATEGORY, args: { isPalette: true } });
    }
    const cards = [
      Command.welcome,
      Command.example,
      Command.showData,
      Command.showClusters,
      Command.showExperiments,
      Command.showJobs
    ];
    cards.forEach((command, rank) =>
      launcher?.add({ command, category: CATEGORY, rank, args: { isLauncher: true } })
    );
  }
};

/** Open the person's copy of a notebook; copies are made where there are none, and never overwritten. */
async function open(app: JupyterFrontEnd, lw: Labwright, path: string): Promise<void> {
  try {
    await bringExamples(app.serviceManager.contents, lw);
    await app.commands.execute('docmanager:open', { path });
  } catch (error) {
    const problem = asProblem(error);
    Notification.error(problem.sentences);
  }
}

async function bringExamples(contents: Contents.IManager, lw: Labwright): Promise<void> {
  const exists = (path: string): Promise<boolean> =>
    contents.get(path, { content: false }).then(
      () => true,
      () => false
    );
  if (!(await exists(FOLDER))) {
    await contents.save(FOLDER, { type: 'directory' });
  }
  for (const name of (await lw.api.examples()).items) {
    const path = name === WELCOME.toLowerCase() ? WELCOME : `${FOLDER}/${name}`;
    if (!(await exists(path))) {
      await contents.save(path, { type: 'notebook', format: 'json', content: await lw.api.example(name) });
    }
  }
}
