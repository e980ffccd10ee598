"""Core: jobs, clusters, usage and quota, audit, and the door to tracking, as one ASGI service."""
