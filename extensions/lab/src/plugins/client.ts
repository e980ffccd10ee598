import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';

import { Api, ServerTransport } from '../api/client';
import { Live } from '../api/live';
import { Tracking } from '../api/mlflow';
import { ILabwright, type Labwright } from '../context';

/** Provides the calls to Labwright and the stream of changes that all panels share. */
export const client: JupyterFrontEndPlugin<Labwright> = {
  id: '@labwright/lab:client',
  description: 'Calls to Labwright and their changes.',
  autoStart: true,
  provides: ILabwright,
  requires: [IRenderMimeRegistry],
  optional: [ITranslator],
  activate: (app: JupyterFrontEnd, rendermime: IRenderMimeRegistry, translator: ITranslator | null): Labwright => {
    const api = new Api(new ServerTransport(app.serviceManager.serverSettings));
    return {
      api,
      tracking: new Tracking(api),
      live: new Live(api),
      trans: (translator ?? nullTranslator).load('labwright'),
      commands: app.commands,
      rendermime,
      contents: app.serviceManager.contents
    };
  }
};
