"""The services of the workbench: hub configuration, core, data and what keeps them running."""
