"""The second embedded base: a small FLUX.1 of the same world, trained with flow matching.

The proof that training, drawing and judging carry over to transformers. `path` may point at another folder that
`python -m tools.pretrain_dollhouse --stage flow` wrote.
"""

from __future__ import annotations

import functools
from pathlib import Path

from lorasweep.components.bases._families import DOLLHOUSE_FLOW
from lorasweep.components.bases._source import Source
from lorasweep.core.records import BaseOptions


class _DollhouseFlow(Source):
    def place(self, options: BaseOptions) -> Path | None:
        from lorasweep import dollhouse

        shipped = dollhouse.flow_weights_dir()
        return super().place(options) or (shipped if shipped.is_dir() else None)

    def problems(self, options: BaseOptions) -> list[tuple[str, str, str]]:
        if self.place(options) is None:
            rule = "must be given: this package has no weights of it, which are still being trained"
            return [("path", rule, "a folder that `python -m tools.pretrain_dollhouse --stage flow` wrote")]
        return super().problems(options)


READABLE = True  # what it draws is of the world that the reader knows
__getattr__ = functools.partial(getattr, _DollhouseFlow(DOLLHOUSE_FLOW))
