import type { Api } from './api/client';

/** How many jobs were updated. */
export async function sendSnapshot(
  api: Pick<Api, 'everyJob' | 'updateJob'>,
  path: string,
  content: Record<string, unknown>
): Promise<number> {
  const jobs = await api.everyJob({ notebook: path });
  const following = jobs.filter(job => job.follow && job.notebook_path === path);
  await Promise.all(following.map(job => api.updateJob(job.id, { notebook: { path, content } })));
  return following.length;
}
