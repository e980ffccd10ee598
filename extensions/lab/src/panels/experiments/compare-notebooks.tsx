import { useEffect, useState } from 'react';

import type { TrackedRun } from '../../api/mlflow';
import { Problem } from '../../api/problem';
import type { Labwright } from '../../context';
import { diffNotebooks, type DiffLine } from '../../notebook-diff';
import { LOADING, load, type Loadable } from '../../store';
import { Diff } from '../../ui/diff';
import { Listing } from '../../ui/states';
import { tagOf } from './model';

interface Props {
  lw: Labwright;
  runs: readonly TrackedRun[];
}

/** What differs between the notebooks of two of the runs. */
export function NotebooksDiff({ lw, runs }: Props): JSX.Element {
  const { trans } = lw;
  const [[one, other], choose] = useState<[number, number]>([runs.length - 1, 0]);
  const [lines, setLines] = useState<Loadable<readonly DiffLine[]>>(LOADING);
  const fetchLines = async (): Promise<void> => {
    setLines(LOADING);
    const [before, after] = [runs[one], runs[other]];
    if (before && after) {
      const both = (): Promise<Record<string, unknown>[]> => Promise.all([before, after].map(run => notebookOf(lw, run)));
      setLines(
        await load<readonly DiffLine[]>(LOADING, async () => {
          const [first, second] = await both();
          return diffNotebooks(first ?? {}, second ?? {});
        })
      );
    }
  };
  useEffect(() => void fetchLines(), [runs, one, other]);
  const pick = (value: number, label: string, then: (at: number) => void): JSX.Element => (
    <select className="lw-input" aria-label={label} value={value} onChange={event => then(Number(event.target.value))}>
      {runs.map((run, at) => (
        <option key={run.info.run_id} value={at}>
          {run.info.run_name}
        </option>
      ))}
    </select>
  );
  return (
    <section aria-label={trans.__('Notebooks')}>
      <p className="lw-source-head">
        <span>
          − {pick(one, trans.__('Before'), at => choose([at, other]))} + {pick(other, trans.__('After'), at => choose([one, at]))}
        </span>
      </p>
      <Listing
        trans={trans}
        of={lines}
        rows={4}
        isEmpty={value => value.length === 0}
        empty={<p>{trans.__('Both had the same source: what differs are parameters and data.')}</p>}
        retry={() => void fetchLines()}
      >
        {value => <Diff trans={trans} lines={value} />}
      </Listing>
    </section>
  );
}

/** As the job's run got it; of a run by hand there is no copy, so the notebook as it is now. */
async function notebookOf(lw: Labwright, run: TrackedRun): Promise<Record<string, unknown>> {
  const job = tagOf(run, 'labwright.run_id');
  if (job !== undefined) {
    return lw.api.runSource(job);
  }
  const path = tagOf(run, 'labwright.notebook');
  const found = path === undefined ? undefined : await lw.contents.get(path, { type: 'notebook' }).catch(() => undefined);
  if (found === undefined) {
    throw new Problem(lw.trans.__('The notebook of %1 cannot be read.', run.info.run_name), {
      remedy: lw.trans.__('Runs of jobs keep their notebook; of a run by hand only the file itself is there.')
    });
  }
  return found.content as Record<string, unknown>;
}
