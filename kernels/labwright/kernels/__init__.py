"""Kernels that start in milliseconds: the fork server, and what Lab and the job runner use it through.

`execution` holds the contract that the job runner speaks; `ordinary` and `engine` implement it.
"""
