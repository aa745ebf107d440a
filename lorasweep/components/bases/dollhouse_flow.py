"""The second embedded base: a small FLUX.1 of the same world, trained with flow matching.

What lorasweep claims is tried on it with transformers. `path` may point at another folder that
`python -m tools.pretrain_dollhouse --stage flow` wrote.
"""

from __future__ import annotations

from pathlib import Path

from lorasweep.components.bases._families import DOLLHOUSE_FLOW
from lorasweep.components.bases._source import Source
from lorasweep.core.records import BaseOptions


class _DollhouseFlow(Source):
    def place(self, options: BaseOptions) -> Path:
        from lorasweep import dollhouse

        return super().place(options) or dollhouse.flow_weights_dir()


SAMPLING = "dpmpp_2m", 6  # as good as 20 of DDIM here: docs/performance.md
READABLE = True  # what it draws is of the world that the reader knows
__getattr__ = _DollhouseFlow(DOLLHOUSE_FLOW).__getattribute__
