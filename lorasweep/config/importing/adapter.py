"""What all trainers have about adapters: rank and alpha, a dropout, a file that training starts from."""

from __future__ import annotations

from lorasweep.config import places
from lorasweep.config.importing.draft import Draft


def put_rank(draft: Draft, dim: str, alpha: str) -> tuple[int, float]:
    """Decide dim and alpha, and return them; an alpha of 0, or neither given nor with a default, is the dim."""
    found = draft.take(dim), draft.take(alpha) or float(draft.take(dim))
    draft.put("adapter.dim", found[0], dim)
    draft.put("adapter.alpha", found[1], alpha)
    return found


def put_dropout(draft: Draft, option: str, adapter: str) -> bool:
    """Decide the dropout, of an adapter that has one; returns whether there is any."""
    share = draft.take(option)
    if share and "dropout" not in places.read_choice("adapter", adapter):
        draft.leave(option, f"adapter={adapter} has no dropout")
        return False
    if share:
        draft.put("adapter.dropout", share, option)
    return bool(share)


def put_init(draft: Draft, option: str) -> None:
    """Decide the file that training starts from."""
    if file := draft.take(option):
        draft.put("adapter.init", file, option)
