import type { CommandRegistry } from '@lumino/commands';
import type { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import type { Contents } from '@jupyterlab/services';
import type { TranslationBundle } from '@jupyterlab/translation';
import { Token } from '@lumino/coreutils';

import type { Api } from './api/client';
import type { Live } from './api/live';
import type { Tracking } from './api/mlflow';

/** What every panel gets. */
export interface Labwright {
  readonly api: Api;
  readonly tracking: Tracking;
  readonly live: Live;
  readonly trans: TranslationBundle;
  readonly commands: CommandRegistry;
  readonly rendermime: IRenderMimeRegistry;
  readonly contents: Contents.IManager;
}

export const ILabwright = new Token<Labwright>('@labwright/lab:ILabwright', 'Calls to Labwright and their changes.');

/** Commands by name; all are in the palette under 'Labwright'. */
export const Command = {
  showData: 'labwright:show-data',
  showClusters: 'labwright:show-clusters',
  showExperiments: 'labwright:show-experiments',
  showJobs: 'labwright:show-jobs',
  welcome: 'labwright:welcome',
  example: 'labwright:example',
  schedule: 'labwright:schedule',
  startDask: 'labwright:start-dask',
  startSpark: 'labwright:start-spark',
  insertCell: 'labwright:insert-cell',
  previewTable: 'labwright:preview-table',
  openRun: 'labwright:open-run',
  compareRuns: 'labwright:compare-runs',
  openMlflow: 'labwright:open-mlflow'
} as const;
