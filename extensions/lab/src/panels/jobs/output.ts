import { OutputArea, OutputAreaModel } from '@jupyterlab/outputarea';
import { MimeModel, type IRenderMimeRegistry } from '@jupyterlab/rendermime';
import { Panel, Widget } from '@lumino/widgets';

import { readCells, type CellLike } from './output-cells';

/**
 * A notebook to look at: never trusted, so no script of its outputs runs, and nothing can be edited. Cells that did
 * not change since the last time are kept, so that a growing notebook does not flicker.
 */
export class NotebookView extends Panel {
  private _shown: string[] = [];

  constructor(
    private readonly _rendermime: IRenderMimeRegistry,
    private readonly _errorCell: () => number | undefined
  ) {
    super();
    this.addClass('lw-notebook');
    this.node.tabIndex = 0;
  }

  display(content: Record<string, unknown>): void {
    const cells = readCells(content);
    const marks = cells.map((cell, at) => JSON.stringify([cell, at === this._errorCell()]));
    const same = marks.findIndex((mark, at) => mark !== this._shown[at]);
    const keep = same === -1 ? marks.length : same;
    while (this.widgets.length > keep) {
      this.widgets[keep]?.dispose();
    }
    cells.slice(keep).forEach((cell, offset) => this.addWidget(this.cell(cell, keep + offset)));
    this._shown = marks;
  }

  private cell(cell: CellLike, at: number): Widget {
    const panel = new Panel();
    panel.addClass('lw-cell');
    panel.toggleClass('lw-mod-error', at === this._errorCell());
    panel.id = `lw-cell-${at}`;
    if (cell.cell_type === 'markdown') {
      const renderer = this._rendermime.createRenderer('text/markdown');
      void renderer.renderModel(new MimeModel({ data: { 'text/markdown': cell.source }, trusted: false }));
      panel.addWidget(renderer);
      return panel;
    }
    const source = new Widget({ node: document.createElement('pre') });
    source.addClass('lw-cell-source');
    source.node.dataset.prompt = cell.cell_type === 'code' ? `[${cell.execution_count ?? ' '}]` : '';
    source.node.textContent = cell.source;
    panel.addWidget(source);
    if (cell.outputs.length > 0) {
      const model = new OutputAreaModel({ trusted: false, values: cell.outputs });
      panel.addWidget(new OutputArea({ model, rendermime: this._rendermime }));
    }
    return panel;
  }
}
