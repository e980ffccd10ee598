"""Usage: the ledger of what runs, quotas, cost, the audit trail, and the admin's page."""

from __future__ import annotations

from labwright.hub.usage.area import build

__all__ = ["build"]
