"""Profiles and the two ways to start a person's processes: local and Kubernetes."""
