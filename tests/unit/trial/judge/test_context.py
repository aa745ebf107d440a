"""What a context keeps of what was asked."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from collections.abc import Callable
from typing import Any

import torch


def test_what_was_asked_is_never_taken_for_a_later_question(context: Any, build_probes: Callable[[], Any]) -> None:
    """A worker drops the probes of trials that wait and makes them anew; another's may lie in their place by then."""
    (name, *_), answers = context.probes.sets, context.answers
    first = context.losses(name, 0.7).adapted
    old = weakref.ref(context.probes.sets[name][0])
    again = dataclasses.replace(context, probes=build_probes(), answers=answers, _cache={})
    context.probes.sets.clear()
    gc.collect()
    assert old() is not None, "as long as its answers are kept, nothing else has its place"
    assert torch.equal(again.losses(name, 0.7).adapted, first)


def test_of_another_weight_there_is_no_history(context: Any) -> None:
    known = dataclasses.replace(context, history=[{"generalisation/held_out": 0.5}], left_out=(1, 4))
    other = known.at_weight(0.4)
    assert (other.weight, list(other.history), other.left_out) == (0.4, [], (1, 4))
