"""Money as people read it; in Lab `format.ts` writes it the same."""

from __future__ import annotations

SIGNS = {"EUR": "€", "USD": "$", "GBP": "£"}


def sign(currency: str) -> str:
    return SIGNS.get(currency, currency)


def money(amount: float, currency: str) -> str:
    """Two digits; four below a cent, so that small work does not look free."""
    digits = 4 if 0 < abs(amount) < 0.01 else 2
    return f"{amount:.{digits}f} {sign(currency)}"
