// Lines are told apart by colour and dash; the colours are read from Lab's theme where it has them.
export const COLOURS = [
  '--jp-brand-color1',
  '--jp-warn-color1',
  '--jp-success-color1',
  '--jp-error-color1',
  '--jp-info-color1'
];
export const DASHES = [[], [8, 4], [3, 3], [10, 3, 2, 3]];
