// The colours are read from Lab's theme where it has them.
const COLOURS = [
  '--jp-brand-color1',
  '--jp-warn-color1',
  '--jp-success-color1',
  '--jp-error-color1',
  '--jp-info-color1'
];
const DASHES = [[], [8, 4], [3, 3], [10, 3, 2, 3]];

/** Of the line at this place: neighbours differ in both, so that the colour is never all that tells them apart. */
export function lineAt(at: number): { colour: string; dash: number[] } {
  return { colour: COLOURS[at % COLOURS.length] ?? '', dash: DASHES[at % DASHES.length] ?? [] };
}
