import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette, Notification } from '@jupyterlab/apputils';
import { INotebookTracker } from '@jupyterlab/notebook';
import { createElement } from 'react';

import { Command, ILabwright, type Labwright } from '../context';
import { jobsIcon } from '../icons';
import { CATEGORY, showView } from './panels';

/** The toolbar button (see schema/schedule.json) and command that turn the notebook in front into a job. */
export const schedule: JupyterFrontEndPlugin<void> = {
  id: '@labwright/lab:schedule',
  description: 'Schedules the notebook in front.',
  autoStart: true,
  requires: [ILabwright, INotebookTracker],
  optional: [ICommandPalette],
  activate: (
    app: JupyterFrontEnd,
    lw: Labwright,
    tracker: INotebookTracker,
    palette: ICommandPalette | null
  ): void => {
    app.commands.addCommand(Command.schedule, {
      label: args => (args.toolbar ? lw.trans.__('Schedule') : lw.trans.__('Labwright: Schedule this notebook')),
      caption: lw.trans.__('Run this notebook on its own, now or on a schedule'),
      icon: args => (args.isPalette ? undefined : jobsIcon),
      execute: () => openForm(app, lw, tracker)
    });
    palette?.addItem({ command: Command.schedule, category: CATEGORY, args: { isPalette: true } });
  }
};

async function openForm(app: JupyterFrontEnd, lw: Labwright, tracker: INotebookTracker): Promise<void> {
  const panel = tracker.currentWidget;
  if (panel === null) {
    Notification.info(lw.trans.__('Open the notebook that you want to schedule, then try again.'));
    return;
  }
  await panel.context.ready;
  if (panel.context.model.dirty && !panel.context.model.readOnly) {
    await panel.context.save();
  }
  const path = app.serviceManager.contents.localPath(panel.context.path);
  const content = panel.context.model.toJSON() as unknown as Record<string, unknown>;
  const { profile } = await lw.api.status().catch(() => ({ profile: null }));
  showView(app, lw, {
    id: `labwright-schedule-${path}`,
    label: lw.trans.__('Schedule %1', panel.title.label),
    icon: jobsIcon,
    bring: async close => {
      const [{ ScheduleForm }, { ScheduleModel }] = await Promise.all([
        import('../panels/jobs/schedule'),
        import('../panels/jobs/schedule-model')
      ]);
      const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
      const model = new ScheduleModel(lw.api, { path, content }, zone, profile ?? '');
      return () => createElement(ScheduleForm, { lw, model, onDone: close });
    }
  });
}
