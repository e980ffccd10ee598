"""Dask Gateway as a service of the workbench: its authenticator, its backend over the Launcher, and core's door."""
