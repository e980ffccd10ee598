import { ReactWidget } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import type { LabIcon } from '@jupyterlab/ui-components';
import { Signal } from '@lumino/signaling';
import { Component, type ReactNode } from 'react';

import { asProblem, type Problem } from '../api/problem';
import { ErrorNote, Skeleton } from './states';

export interface LazyOptions {
  id: string;
  label: string;
  caption?: string;
  icon: LabIcon;
  trans: TranslationBundle;
  /** Brings the view into its place; called when it is first shown. */
  bring: (place: LazyWidget) => Promise<() => ReactNode>;
}

/** A panel or view whose code comes when it is first shown. */
export class LazyWidget extends ReactWidget {
  private _view: (() => ReactNode) | undefined;
  private _problem: Problem | undefined;
  private _asked = false;
  /** Tells when it comes to the front. */
  readonly shown = new Signal<this, void>(this);

  constructor(private readonly _options: LazyOptions) {
    super();
    this.id = _options.id;
    this.addClass('lw-panel');
    this.title.label = _options.label;
    this.title.caption = _options.caption ?? _options.label;
    this.title.icon = _options.icon;
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', this.title.caption);
  }

  protected override onAfterShow(): void {
    void this.bring();
    this.shown.emit();
  }

  protected override onAfterAttach(message: Parameters<ReactWidget['onAfterAttach']>[0]): void {
    super.onAfterAttach(message);
    if (this.isVisible) {
      void this.bring();
    }
  }

  protected render(): JSX.Element {
    const { trans } = this._options;
    if (this._problem) {
      return <ErrorNote trans={trans} problem={this._problem} retry={() => void this.bring(true)} />;
    }
    return this._view ? (
      <Boundary trans={trans}>{this._view()}</Boundary>
    ) : (
      <Skeleton trans={trans} />
    );
  }

  private async bring(again = false): Promise<void> {
    if (this._asked && !again) {
      return;
    }
    this._asked = true;
    this._problem = undefined;
    try {
      this._view = await this._options.bring(this);
    } catch (error) {
      this._problem = asProblem(error);
    }
    this.update();
  }
}

/** A view that broke says so instead of going blank. */
class Boundary extends Component<{ trans: TranslationBundle; children: ReactNode }, { error?: Problem }> {
  override state: { error?: Problem } = {};

  static getDerivedStateFromError(error: unknown): { error: Problem } {
    return { error: asProblem(error) };
  }

  override render(): ReactNode {
    const { error } = this.state;
    return error ? (
      <ErrorNote trans={this.props.trans} problem={error} retry={() => this.setState({ error: undefined })} />
    ) : (
      this.props.children
    );
  }
}
