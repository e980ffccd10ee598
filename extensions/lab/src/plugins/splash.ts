import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { Dialog, ISplashScreen } from '@jupyterlab/apputils';
import { ITranslator, type TranslationBundle } from '@jupyterlab/translation';
import { jupyterFaviconIcon } from '@jupyterlab/ui-components';
import { DisposableDelegate } from '@lumino/disposable';

const LONG_MS = 12_000;
const RESET = 'apputils:reset';

/**
 * What covers Lab until its layout is there. Lab's own is animated, on the processor where there is no graphics card, and
 * stays 0.2 s longer, while nothing below it can be clicked. That one is switched off in package.json.
 */
export const splash: JupyterFrontEndPlugin<ISplashScreen> = {
  id: '@labwright/lab:splash',
  description: 'Provides the splash screen.',
  autoStart: true,
  provides: ISplashScreen,
  requires: [ITranslator],
  activate: (app: JupyterFrontEnd, translator: ITranslator): ISplashScreen => {
    const trans = translator.load('labwright');
    const node = document.createElement('div');
    node.id = 'jupyterlab-splash';
    node.className = 'lw-splash';
    jupyterFaviconIcon.element({ container: node, stylesheet: 'splash' });
    let shown = 0;
    return {
      show: (light = true) => {
        node.classList.toggle('light', light);
        node.classList.toggle('dark', !light);
        document.body.appendChild(node);
        shown += 1;
        const stop = shown === 1 ? offerToClear(app, trans) : undefined;
        return new DisposableDelegate(() => {
          void app.restored.then(() => {
            shown -= 1;
            stop?.();
            if (shown === 0) {
              node.remove();
            }
          });
        });
      }
    };
  }
};

/** After a long while, offer to forget the layout that Lab tries to restore; returns what ends that. */
function offerToClear(app: JupyterFrontEnd, trans: TranslationBundle): () => void {
  let dialog: Dialog<unknown> | undefined;
  let timer = setTimeout(ask, LONG_MS);
  function ask(): void {
    dialog = new Dialog({
      title: trans.__('Loading…'),
      body: trans.__('This takes long. Keep waiting, or clear the layout and the open documents of the last visit.'),
      buttons: [
        Dialog.cancelButton({ label: trans.__('Keep waiting') }),
        Dialog.warnButton({ label: trans.__('Clear the layout') })
      ]
    });
    dialog.launch().then(
      result => {
        if (result.button.accept && app.commands.hasCommand(RESET)) {
          void app.commands.execute(RESET);
        } else {
          timer = setTimeout(ask, LONG_MS);
        }
      },
      () => undefined // disposed: Lab is there
    );
  }
  return () => {
    clearTimeout(timer);
    dialog?.dispose();
  };
}
