"""Work out once what many arms of a sweep share: within `shared()`, a marked function runs once for equal keys.

Outside of it nothing is remembered: files change between two commands of one process. What is remembered is given to
every caller, so that none may change it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

Args = ParamSpec("Args")
Found = TypeVar("Found")

_known: ContextVar[dict[Hashable, Any] | None] = ContextVar("known", default=None)


@contextmanager
def shared() -> Iterator[None]:
    """Remember what marked functions find until this ends; one within another ends with the outer one."""
    token = _known.set({}) if _known.get() is None else None
    try:
        yield
    finally:
        if token is not None:
            _known.reset(token)


def per(key: Callable[..., Hashable]) -> Callable[[Callable[Args, Found]], Callable[Args, Found]]:
    """Mark a function whose result follows from `key` of its arguments, and from files; what it raises is not kept."""

    def mark(function: Callable[Args, Found]) -> Callable[Args, Found]:
        @functools.wraps(function)
        def ask(*args: Args.args, **kwargs: Args.kwargs) -> Found:
            known = _known.get()
            if known is None:
                return function(*args, **kwargs)
            at = (function, key(*args, **kwargs))
            if at not in known:
                known[at] = function(*args, **kwargs)
            found: Found = known[at]
            return found

        return ask

    return mark


def per_arguments(function: Callable[Args, Found]) -> Callable[Args, Found]:
    """Mark a function whose result follows from its arguments, all hashable, and from files."""
    return per(lambda *args, **kwargs: (args, tuple(sorted(kwargs.items()))))(function)
