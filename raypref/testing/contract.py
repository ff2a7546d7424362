"""How a broken contract is told."""

from __future__ import annotations

from collections.abc import Iterable


class ContractError(AssertionError):
    """An extension does not keep a promise; one line for each that it breaks."""


def require(name: str, faults: Iterable[str]) -> None:
    """Raise where there are faults.

    Args:
        name: The extension that was checked.
        faults: What is wrong, a sentence each.

    Raises:
        ContractError: there is a fault.
    """
    found = list(dict.fromkeys(faults))
    if found:
        raise ContractError("\n".join([f"{name} breaks its contract:", *(f"  - {fault}" for fault in found)]))
