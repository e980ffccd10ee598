"""Money reads the same everywhere."""

from __future__ import annotations

from labwright.api.money import money


def test_money_has_its_sign_and_is_never_rounded_to_nothing() -> None:
    assert money(0.004, "EUR") == "0.0040 €"
    assert money(2.4, "USD") == "2.40 $"
    assert money(0, "EUR") == "0.00 €"
    assert money(312.4, "CHF") == "312.40 CHF"
