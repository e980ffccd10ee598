"""Tracking: MLflow behind core's door, each person in a workspace of his own, each group in a shared one."""

from __future__ import annotations

from labwright.hub.tracking.area import build

__all__ = ["build"]
