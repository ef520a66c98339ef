"""A shop's function, as a tenant's file may name one."""

from __future__ import annotations

from typing import Any

PAID: list[dict[str, Any]] = []


def pay(amount: float, card: str, code: str) -> str:
    """Pay with a card."""
    PAID.append({"amount": amount, "card": card, "code": code})
    return f"paid {amount:g} with {card[:4]} {card[4:8]} {card[8:12]} {card[12:]} ({code})"


def pay_by_card(amount: float, card: str) -> str:
    """Pay with a card."""
    PAID.append({"amount": amount, "card": card})
    return f"paid {amount:g} with {card}"
