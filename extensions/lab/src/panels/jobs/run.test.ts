import { describe, expect, it } from 'vitest';

import { made } from '../../services.fake';
import { cellTimes } from './output-cells';
import { RunModel } from './run-model';

const notebook = (...sources: string[]) => ({ cells: sources.map(source => ({ cell_type: 'code', source })) });
const run = { id: 'r2', job_id: 'j1', state: 'succeeded', notebook_path: 'late.ipynb', profile: 'small', parameters: {} };

function opened(more: Record<string, unknown>, file = () => Promise.resolve(notebook('x = 1', 'y = 2'))) {
  const { services, api, live } = made({
    'GET core/runs/r2': run,
    'GET core/runs/r2/source': notebook('x = 1'),
    'GET core/runs': { items: [{ ...run, id: 'r3' }, run, { ...run, id: 'r1' }] },
    ...more
  });
  return { services, model: new RunModel(api, live, 'r2', file, () => false) };
}

const added = (model: RunModel) => model.state.diff.value?.filter(line => line.kind === 'added').map(line => line.text);

describe('the source of a run', () => {
  it('is compared with the file as it is now, then with another run, then shown as a whole', async () => {
    const { model } = opened({ 'GET core/runs/r1/source': notebook('x = 0') });
    await model.refresh();
    await model.show('source');
    expect(added(model)).toEqual(['y = 2']);
    expect(model.state.others.map(each => each.id)).toEqual(['r3', 'r1']);
    await model.compareWith({ run: 'r1' });
    expect(added(model)).toEqual(['x = 1']);
    await model.compareWith('nothing');
    expect(model.state.diff.value?.map(line => line.text)).toEqual(['code 1', 'x = 1']);
    model.dispose();
  });

  it('says when the file is gone, and can still be compared with runs', async () => {
    const { model } = opened({ 'GET core/runs/r1/source': notebook('x = 0') }, () => Promise.reject(new Error('gone')));
    await model.refresh();
    await model.show('source');
    expect(model.state.diff.problem?.message).toContain('gone');
    await model.compareWith({ run: 'r1' });
    expect(model.state.diff.problem).toBeUndefined();
    expect(added(model)).toEqual(['x = 1']);
    model.dispose();
  });

  it('is asked for once, not at every look at the run', async () => {
    const { model, services } = opened({});
    await model.refresh();
    await model.show('source');
    await model.refresh();
    expect(services.asked.filter(each => each === 'GET core/runs/r2/source')).toHaveLength(1);
    model.dispose();
  });
});

describe('the resources of a run', () => {
  it('know the profile by its slug', async () => {
    const { model } = opened({ 'GET core/me': { profiles: [{ slug: 'small', name: 'Small' }] } });
    expect(model.profile).toBeUndefined();
    await model.refresh();
    await model.meet();
    expect(model.profile?.name).toBe('Small');
    model.dispose();
  });

  it('tell the time of code cells that ran', () => {
    const cells = [
      { cell_type: 'markdown', source: '# Title', metadata: { papermill: { duration: 1 } } },
      { cell_type: 'code', source: ['\n', 'fit()\n', 'x'], execution_count: 2, metadata: { papermill: { duration: 2.5 } } },
      { cell_type: 'code', source: 'never', execution_count: null, metadata: { papermill: { duration: null } } }
    ];
    expect(cellTimes({ cells })).toEqual([{ at: 1, prompt: '[2]', source: '\nfit()\nx', firstLine: 'fit()', seconds: 2.5 }]);
  });
});
