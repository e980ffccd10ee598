import { ILayoutRestorer, type JupyterFrontEnd, type JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { createElement } from 'react';

import { Problem } from '../api/problem';
import { Command, ILabwright, type Labwright } from '../context';
import { jobsIcon } from '../icons';
import { addSidePanel, showView } from './panels';

export const jobs: JupyterFrontEndPlugin<void> = {
  id: '@labwright/lab:jobs',
  description: 'The Jobs panel: jobs, runs and their output.',
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
      id: 'labwright-jobs',
      label: lw.trans.__('Jobs'),
      icon: jobsIcon,
      rank: 330,
      command: Command.showJobs,
      bring: async () => {
        const [{ JobsPanel }, { JobsModel }] = await Promise.all([
          import('../panels/jobs/panel'),
          import('../panels/jobs/model')
        ]);
        const model = new JobsModel(lw.api, lw.live);
        return () => createElement(JobsPanel, { lw, model });
      }
    };
    addSidePanel(app, lw, panel, palette, restorer);
    app.commands.addCommand(Command.openRun, {
      label: lw.trans.__('Open a run'),
      execute: args => openRun(app, lw, String(args.id))
    });
  }
};

async function openRun(app: JupyterFrontEnd, lw: Labwright, id: string): Promise<void> {
  const { job_name, number } = await lw.api.run(id);
  showView(app, lw, {
    id: `labwright-run-${id}`,
    label: `${job_name} #${number}`,
    icon: jobsIcon,
    bring: async () => {
      const [{ RunPage }, { RunModel }] = await Promise.all([
        import('../panels/jobs/run'),
        import('../panels/jobs/run-model')
      ]);
      const model = new RunModel(lw.api, lw.live, id, path => readNotebook(lw, path));
      return () => createElement(RunPage, { lw, model });
    }
  });
}

/** The notebook as it is now in the person's home. */
async function readNotebook(lw: Labwright, path: string): Promise<Record<string, unknown>> {
  const { content } = await lw.contents.get(path, { type: 'notebook', content: true }).catch(() => {
    throw new Problem(lw.trans.__('%1 is not in your home any more, or cannot be read.', path), {
      remedy: lw.trans.__('Compare with another run, or look at all of the source.')
    });
  });
  return content as Record<string, unknown>;
}
