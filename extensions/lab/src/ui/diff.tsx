import type { TranslationBundle } from '@jupyterlab/translation';

import type { DiffLine } from '../notebook-diff';

const SIGNS: Partial<Record<DiffLine['kind'], string>> = { added: '+', removed: '−' };

/** Lines with their sign; colour says it a second time. */
export function Diff({ trans, lines }: { trans: TranslationBundle; lines: readonly DiffLine[] }): JSX.Element {
  return (
    <div className="lw-diff" tabIndex={0} role="region" aria-label={trans.__('Source, line by line')}>
      {lines.map((line, at) => (
        <div key={at} className={`lw-diff-line lw-mod-${line.kind}`}>
          <span className="lw-diff-sign">{SIGNS[line.kind] ?? ''}</span>
          <span>{line.kind === 'skipped' ? trans.__('… %1 equal lines', line.text) : line.text}</span>
        </div>
      ))}
    </div>
  );
}
