import { ILayoutRestorer, type JupyterFrontEnd, type JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { PromiseDelegate } from '@lumino/coreutils';
import { createElement } from 'react';

import type { ClusterRequest } from '../api/models';
import { Command, ILabwright, type Labwright } from '../context';
import { clustersIcon } from '../icons';
import type { StartModel } from '../panels/clusters/start-model';
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
    const form = new PromiseDelegate<StartModel>();
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
        form.resolve(start);
        return () => createElement(ClustersPanel, { lw, model, start });
      }
    };
    addSidePanel(app, lw, panel, palette, restorer);
    const addStart = (command: string, label: string, engine: ClusterRequest['engine']): void => {
      app.commands.addCommand(command, {
        label,
        execute: async () => {
          app.shell.activateById(panel.id);
          await (await form.promise).ask(engine);
        }
      });
      palette?.addItem({ command, category: CATEGORY });
    };
    addStart(Command.startDask, lw.trans.__('Labwright: Start a Dask cluster…'), 'dask');
    addStart(Command.startSpark, lw.trans.__('Labwright: Start a Spark session…'), 'spark');
  }
};
