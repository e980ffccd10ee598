import type { JupyterFrontEndPlugin } from '@jupyterlab/application';

import { client } from './plugins/client';
import { clusters } from './plugins/clusters';
import { data } from './plugins/data';
import { deaths } from './plugins/deaths';
import { executor } from './plugins/executor';
import { experiments } from './plugins/experiments';
import { follow } from './plugins/follow';
import { jobs } from './plugins/jobs';
import { kernels } from './plugins/kernels';
import { launcher } from './plugins/launcher';
import { notebooks } from './plugins/notebooks';
import { opening } from './plugins/opening';
import { schedule } from './plugins/schedule';
import { settings } from './plugins/settings';
import { splash } from './plugins/splash';
import { status } from './plugins/status';

const plugins: JupyterFrontEndPlugin<unknown>[] = [
  settings,
  splash,
  client,
  notebooks,
  executor,
  data,
  clusters,
  experiments,
  jobs,
  schedule,
  follow,
  kernels,
  deaths,
  launcher,
  opening,
  status
];

export default plugins;
