import { ILabShell, type JupyterFrontEnd, type JupyterFrontEndPlugin } from '@jupyterlab/application';
import { PageConfig } from '@jupyterlab/coreutils';

const LAUNCHER = 'launcher:create';

/**
 * Shows the launcher as soon as the layout is there and empty. Lab shows it when it has saved that layout and read the
 * folder again, most of a second later, and has an empty page until then. An address that names a file shows that.
 */
export const opening: JupyterFrontEndPlugin<void> = {
  id: '@labwright/lab:opening',
  description: 'Shows the launcher without delay.',
  autoStart: true,
  requires: [ILabShell],
  activate: (app: JupyterFrontEnd, shell: ILabShell): void => {
    void app.restored.then(async () => {
      if (!PageConfig.getOption('treePath') && shell.isEmpty('main') && app.commands.hasCommand(LAUNCHER)) {
        await app.commands.execute(LAUNCHER);
      }
    });
  }
};
