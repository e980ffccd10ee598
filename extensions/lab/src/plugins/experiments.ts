import { ILayoutRestorer, type JupyterFrontEnd, type JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { createElement } from 'react';

import { ServerTransport } from '../api/client';
import { Command, ILabwright, type Labwright } from '../context';
import { experimentsIcon } from '../icons';
import type { LazyWidget } from '../ui/lazy';
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
      bring: async (place: LazyWidget) => {
        const [{ ExperimentsPanel }, { ExperimentsModel }] = await Promise.all([
          import('../panels/experiments/panel'),
          import('../panels/experiments/model')
        ]);
        const model = new ExperimentsModel(lw.tracking, lw.live, () => document.hidden || !place.isVisible);
        place.shown.connect(() => void model.refresh());
        return () => createElement(ExperimentsPanel, { lw, model });
      }
    };
    addSidePanel(app, lw, panel, palette, restorer);
    app.commands.addCommand(Command.compareRuns, {
      label: lw.trans.__('Compare runs'),
      execute: args => {
        const { experiment, runs, workspace } = args as unknown as Comparison;
        showView(app, lw, {
          id: `labwright-compare-${[...runs].sort().join('-')}`,
          label: lw.trans.__('Compare %1 runs', runs.length),
          icon: experimentsIcon,
          bring: async () => {
            const { Compare } = await import('../panels/experiments/compare');
            return () => createElement(Compare, { lw, experiment, runs, tracking: lw.tracking.of(workspace) });
          }
        });
      }
    });
    app.commands.addCommand(Command.openMlflow, {
      label: lw.trans.__('Labwright: Open MLflow'),
      execute: async args => {
        const own = (): Promise<string | undefined> =>
          lw.tracking.workspaces().then(
            all => all[0]?.name,
            () => undefined
          );
        const workspace = args.workspace ?? (await own());
        const base = new ServerTransport(app.serviceManager.serverSettings).url('mlflow/');
        quietMlflow();
        window.open(`${base}#${mlflowPage(args.experiment, args.run, workspace)}`, '_blank', 'noopener');
      }
    });
    palette?.addItem({ command: Command.openMlflow, category: CATEGORY });
  }
};

interface Comparison {
  experiment: string;
  runs: string[];
  workspace?: string;
}

/** The page of MLflow for a run, for the runs of an experiment, or for all; its pages ask which workspace when it is not said. */
export function mlflowPage(experiment: unknown, run: unknown, workspace: unknown): string {
  const query = typeof workspace === 'string' ? `?workspace=${encodeURIComponent(workspace)}` : '';
  if (typeof experiment !== 'string') {
    return `/experiments${query}`;
  }
  const page = `/experiments/${encodeURIComponent(experiment)}/runs`;
  return (typeof run === 'string' ? `${page}/${encodeURIComponent(run)}` : page) + query;
}

/** At a first visit MLflow opens with an assistant that is not there, and with the pages for language models. */
function quietMlflow(): void {
  const first = {
    'mlflow.assistant.fab.autoOpenedOnFirstLoad_v1': 'true',
    'mlflow.assistant.panelOpen_v1': 'false',
    'mlflow.detectIssues.guidanceShown_v1': 'true',
    'mlflow.workflowType_v1': '"machine_learning"'
  };
  for (const [key, value] of Object.entries(first)) {
    if (localStorage.getItem(key) === null) {
      localStorage.setItem(key, value);
    }
  }
}
