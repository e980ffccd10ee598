import { ILayoutRestorer, type JupyterFrontEnd, type JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette, Notification } from '@jupyterlab/apputils';
import { createElement } from 'react';

import type { ClusterRequest } from '../api/models';
import { asProblem } from '../api/problem';
import { Command, ILabwright, type Labwright } from '../context';
import { clustersIcon } from '../icons';
import { CATEGORY, addSidePanel } from './panels';

export const clusters: JupyterFrontEndPlugin<void> = {
  id: '@labwright/lab:clusters',
  description: 'The Clusters panel: Dask and Spark.',
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
      id: 'labwright-clusters',
      label: lw.trans.__('Clusters'),
      icon: clustersIcon,
      rank: 310,
      command: Command.showClusters,
      bring: async () => {
        const [{ ClustersPanel }, { ClustersModel }, { StartModel }] = await Promise.all([
          import('../panels/clusters/panel'),
          import('../panels/clusters/model'),
          import('../panels/clusters/start-model')
        ]);
        const model = new ClustersModel(lw.api, lw.live);
        const start = new StartModel(lw.api);
        return () => createElement(ClustersPanel, { lw, model, start });
      }
    };
    addSidePanel(app, lw, panel, palette, restorer);
    addStart(app, lw, palette, Command.startDask, lw.trans.__('Labwright: Start a Dask cluster'), 'dask');
    addStart(app, lw, palette, Command.startSpark, lw.trans.__('Labwright: Start a Spark session'), 'spark');
  }
};

function addStart(
  app: JupyterFrontEnd,
  lw: Labwright,
  palette: ICommandPalette | null,
  command: string,
  label: string,
  engine: ClusterRequest['engine']
): void {
  app.commands.addCommand(command, {
    label,
    execute: async () => {
      try {
        await lw.api.startCluster({ engine });
        app.shell.activateById('labwright-clusters');
      } catch (error) {
        Notification.error(asProblem(error).sentences, { autoClose: false });
      }
    }
  });
  palette?.addItem({ command, category: CATEGORY });
}
