import { ILayoutRestorer, type JupyterFrontEnd, type JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { createElement } from 'react';

import { Command, ILabwright, type Labwright } from '../context';
import { dataIcon } from '../icons';
import { addSidePanel, showView } from './panels';

export const data: JupyterFrontEndPlugin<void> = {
  id: '@labwright/lab:data',
  description: 'The Data panel: connections, tables, previews.',
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
      id: 'labwright-data',
      label: lw.trans.__('Data'),
      icon: dataIcon,
      rank: 300,
      command: Command.showData,
      bring: async () => {
        const [{ DataPanel }, { DataModel }] = await Promise.all([
          import('../panels/data/panel'),
          import('../panels/data/model')
        ]);
        const model = new DataModel(lw.api, lw.live);
        return () => createElement(DataPanel, { lw, model });
      }
    };
    addSidePanel(app, lw, panel, palette, restorer);
    app.commands.addCommand(Command.previewTable, {
      label: lw.trans.__('Preview a table'),
      execute: args => {
        const { connection, schema, table } = args as Record<'connection' | 'schema' | 'table', string>;
        showView(app, lw, {
          id: `labwright-table-${connection}-${schema}-${table}`,
          label: table,
          caption: `${connection} · ${schema}.${table}`,
          icon: dataIcon,
          bring: async () => {
            const { TablePreview } = await import('../panels/data/preview');
            return () => createElement(TablePreview, { lw, connection, schema, table });
          }
        });
      }
    });
  }
};
