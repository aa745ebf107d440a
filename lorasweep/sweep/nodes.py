"""Which machine is sick: a node where trials fail that run elsewhere is benched, before the sweep is stopped. Pure.

A node without a name, this machine, is a node like any other. Knows nothing about processes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection

EARLY_DEATHS = 3  # workers of a node that die before they can cook, one after the other
ALIKE_BENCHES = 2  # trials that crash alike on one node and on no other


class NodeWatch:
    """Counts failures by node.

    Attributes:
        benched: node -> why it gets no more work.
    """

    def __init__(self) -> None:
        self.benched: dict[str, str] = {}
        self._early: Counter[str] = Counter()
        self._crashed: defaultdict[str, defaultdict[str, set[int]]] = defaultdict(lambda: defaultdict(set))

    def fine(self, node: str, *, done: bool = False) -> None:
        """A worker there gets on; `done`: it has completed a trial."""
        self._early[node] = 0
        if done:
            for crashed in self._crashed.values():
                crashed.pop(node, None)

    def died_early(self, node: str) -> bool:
        """A worker died before it could cook; returns whether that was once too often."""
        self._early[node] += 1
        return self._early[node] >= EARLY_DEATHS

    def crashed(self, node: str, trial: int, kind: str) -> bool:
        """An attempt crashed; returns whether it looks like the node's fault."""
        places = self._crashed[kind]
        places[node].add(trial)
        return len(places[node]) >= ALIKE_BENCHES and set(places) == {node}

    def bench(self, node: str, why: str, *, nodes: Collection[str]) -> bool:
        """Give a node no more work, unless it is the last one of `nodes`; returns whether it is benched."""
        if not set(nodes) - {node, *self.benched}:
            return False
        self.benched.setdefault(node, why)
        return True
