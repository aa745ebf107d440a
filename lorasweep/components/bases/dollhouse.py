"""The embedded default: a small Stable Diffusion that ships with the package.

Same loader, same record and same rules as `stable_diffusion`; only the folder is known beforehand. `path` may
point at another folder that `python -m tools.pretrain_dollhouse` wrote.
"""

from __future__ import annotations

from pathlib import Path

from lorasweep.components.bases import _files
from lorasweep.components.bases._families import STABLE_DIFFUSION
from lorasweep.components.bases._source import Source
from lorasweep.core.printable import command
from lorasweep.core.records import BaseOptions


class _Dollhouse(Source):
    def place(self, options: BaseOptions) -> Path:
        from lorasweep import dollhouse

        return super().place(options) or dollhouse.weights_dir()

    def problems(self, options: BaseOptions) -> list[tuple[str, str, str]]:
        found = [*super().problems(options)]
        for key in ("prediction_type", "zero_terminal_snr"):
            if (given := getattr(options, key)) is not None:
                rule = f"must be null: the dollhouse is noised as its files say, got {str(given).lower()}"
                found.append((key, rule, f"override: base.{key}=null"))
        if options.path is None or found:
            return found
        path = self.place(options)
        native_px = _files.native_px(path) if path.is_dir() else None
        if path.is_dir() and (native_px is None or native_px <= 2 * options.resolution):
            return []
        what = path.name if native_px is None else f"a base of {native_px} x {native_px} px"
        hint = f"a Stable Diffusion of yours: {command('base=stable_diffusion', f'base.path={options.path}')}"
        return [("path", f"must be a folder written by `python -m tools.pretrain_dollhouse`, got {what}", hint)]


SAMPLING = "dpmpp_2m", 6  # as good as 20 of DDIM here: docs/performance.md
READABLE = True  # what it draws is of the world that the reader knows
__getattr__ = _Dollhouse(STABLE_DIFFUSION).__getattribute__
