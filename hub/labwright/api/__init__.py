"""The contracts of Labwright: models, errors, identity and the client. A leaf: imports nothing of ours, stays light."""

__version__ = "0.1.0"
