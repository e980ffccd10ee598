import type { ILayoutRestorer, JupyterFrontEnd } from '@jupyterlab/application';
import { MainAreaWidget, type ICommandPalette } from '@jupyterlab/apputils';
import type { LabIcon } from '@jupyterlab/ui-components';
import { find } from '@lumino/algorithm';
import type { ReactNode } from 'react';

import type { Labwright } from '../context';
import { LazyWidget } from '../ui/lazy';

export const CATEGORY = 'Labwright';

export interface SidePanel {
  id: string;
  label: string;
  icon: LabIcon;
  rank: number;
  command: string;
  bring: (place: LazyWidget) => Promise<() => ReactNode>;
}

/** A panel in the left area with its command 'Labwright: Show …'. */
export function addSidePanel(
  app: JupyterFrontEnd,
  lw: Labwright,
  panel: SidePanel,
  palette: ICommandPalette | null,
  restorer: ILayoutRestorer | null
): void {
  const widget = new LazyWidget({ ...panel, label: '', caption: panel.label, trans: lw.trans });
  app.shell.add(widget, 'left', { rank: panel.rank });
  restorer?.add(widget, panel.id);
  app.commands.addCommand(panel.command, {
    label: args => (args.isLauncher ? panel.label : lw.trans.__('Labwright: Show %1', panel.label)),
    caption: lw.trans.__('Show the panel %1', panel.label),
    icon: args => (args.isPalette ? undefined : panel.icon),
    execute: () => app.shell.activateById(panel.id)
  });
  palette?.addItem({ command: panel.command, category: CATEGORY, args: { isPalette: true } });
}

export interface View {
  id: string;
  label: string;
  caption?: string;
  icon: LabIcon;
  bring: (close: () => void) => Promise<() => ReactNode>;
}

/** Show a view in the main area; the one that is open already under this id is brought to the front. */
export function showView(app: JupyterFrontEnd, lw: Labwright, view: View): void {
  const open = find(app.shell.widgets('main'), widget => widget.id === view.id);
  if (open) {
    app.shell.activateById(view.id);
    return;
  }
  const content = new LazyWidget({
    ...view,
    id: `${view.id}-content`,
    trans: lw.trans,
    bring: () => view.bring(() => main.dispose())
  });
  content.addClass('lw-main');
  const main = new MainAreaWidget({ content });
  main.id = view.id;
  main.toolbar.hide();
  main.title.closable = true;
  app.shell.add(main, 'main');
  app.shell.activateById(view.id);
}
