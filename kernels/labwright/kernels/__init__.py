"""Kernels and the execution of notebooks: the fork server, the kernel provisioner, the engine that jobs run on."""
