import { LabIcon } from '@jupyterlab/ui-components';

function icon(name: string, paths: string): LabIcon {
  const svgstr = `<svg xmlns="http://www.w3.org/2000/svg" width="16" height="16" viewBox="0 0 24 24" fill="none"><g class="jp-icon3" stroke="#616161" stroke-width="2" stroke-linecap="round" stroke-linejoin="round">${paths}</g></svg>`;
  return new LabIcon({ name: `labwright:${name}`, svgstr });
}

export const dataIcon = icon(
  'data',
  '<ellipse cx="12" cy="5.5" rx="7.5" ry="3"/><path d="M4.5 5.5v13c0 1.7 3.400 3 7.5 3s7.5-1.300 7.5-3v-13"/><path d="M4.5 12c0 1.7 3.400 3 7.5 3s7.5-1.300 7.5-3"/>'
);
export const clustersIcon = icon(
  'clusters',
  '<circle cx="12" cy="5" r="2.5"/><circle cx="5" cy="18" r="2.5"/><circle cx="19" cy="18" r="2.5"/><path d="M10.800 7.300 6.300 15.7M13.2 7.300l4.5 8.400M7.5 18h9"/>'
);
export const experimentsIcon = icon('experiments', '<path d="M3.5 3.5v17h17"/><path d="m7 15 4-5 3.5 3L20 6.5"/>');
export const jobsIcon = icon('jobs', '<circle cx="12" cy="12" r="8.5"/><path d="M12 7v5.2l3.5 2"/>');
export const welcomeIcon = icon(
  'welcome',
  '<path d="M6 3.5h10.5a2 2 0 0 1 2 2v13a2 2 0 0 1-2 2H6z"/><path d="M9.5 3.5v17M12.5 8h3M12.5 11.5h3"/>'
);
