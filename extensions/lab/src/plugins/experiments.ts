import { ILayoutRestorer, type JupyterFrontEnd, type JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { createElement } from 'react';

import { ServerTransport } from '../api/client';
import { Command, ILabwright, type Labwright } from '../context';
import { experimentsIcon } from '../icons';
import { CATEGORY, addSidePanel, showView } from './panels';

export const experiments: JupyterFrontEndPlugin<void> = {
  id: '@labwright/lab:experiments',
  description: 'The Experiments panel: runs, comparison, registered models.',
  autoStart: true,
  requires: [ILabwright],
  optional: [ICommandPalette, ILayoutRestorer],
  activate: (
    app: JupyterFrontEnd,
    lw: Labwright,
    palette: ICommandPalette | null,
    restorer: ILayoutRestorer | null
  ): void => {
    const panel = {
      id: 'labwright-experiments',
      label: lw.trans.__('Experiments'),
      icon: experimentsIcon,
      rank: 320,
      command: Command.showExperiments,
      bring: async () => {
        const [{ ExperimentsPanel }, { ExperimentsModel }] = await Promise.all([
          import('../panels/experiments/panel'),
          import('../panels/experiments/model')
        ]);
        const model = new ExperimentsModel(lw.tracking, lw.live);
        return () => createElement(ExperimentsPanel, { lw, model });
      }
    };
    addSidePanel(app, lw, panel, palette, restorer);
    app.commands.addCommand(Command.compareRuns, {
      label: lw.trans.__('Compare runs'),
      execute: args => {
        const { experiment, runs } = args as unknown as { experiment: string; runs: string[] };
        showView(app, lw, {
          id: `labwright-compare-${[...runs].sort().join('-')}`,
          label: lw.trans.__('Compare %1 runs', runs.length),
          icon: experimentsIcon,
          bring: async () => {
            const { Compare } = await import('../panels/experiments/compare');
            return () => createElement(Compare, { lw, experiment, runs });
          }
        });
      }
    });
    app.commands.addCommand(Command.openMlflow, {
      label: lw.trans.__('Labwright: Open MLflow'),
      execute: args => {
        const base = new ServerTransport(app.serviceManager.serverSettings).url('mlflow/');
        window.open(`${base}#${mlflowPage(args.experiment, args.run)}`, '_blank', 'noopener');
      }
    });
    palette?.addItem({ command: Command.openMlflow, category: CATEGORY });
  }
};

export function mlflowPage(experiment: unknown, run: unknown): string {
  if (typeof experiment !== 'string') {
    return '/experiments';
  }
  const page = `/experiments/${encodeURIComponent(experiment)}`;
  return typeof run === 'string' ? `${page}/runs/${encodeURIComponent(run)}` : page;
}
