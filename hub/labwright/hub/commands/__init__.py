"""The verbs that run on the workbench's own machine: up, down, doctor, config, people."""
