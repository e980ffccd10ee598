import type { TranslationBundle } from '@jupyterlab/translation';
import { refreshIcon } from '@jupyterlab/ui-components';
import type { ReactNode } from 'react';

export interface HeaderProps {
  title: string;
  trans: TranslationBundle;
  onRefresh: () => void;
  children?: ReactNode;
}

/** The head of a side panel: its name, what it offers, refresh. */
export function Header({ title, trans, onRefresh, children }: HeaderProps): JSX.Element {
  return (
    <div className="lw-header">
      <h2>{title}</h2>
      {children}
      <button className="lw-icon-button" title={trans.__('Refresh')} aria-label={trans.__('Refresh')} onClick={onRefresh}>
        <refreshIcon.react tag="span" elementSize="normal" />
      </button>
    </div>
  );
}
