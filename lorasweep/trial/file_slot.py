"""A slot whose next step is the next file: so that files are sampled and judged by the code that judges training.

Stands where a `train.slot.Slot` does in `trial.run`. What it saves is a copy of each file, so that the run folder holds
what was judged, whatever becomes of the original.
"""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from lorasweep.core import files
from lorasweep.core.protocols import Base
from lorasweep.core.records import Recipe
from lorasweep.core.run_folder import ADAPTER_FILE, RunFolder, steps_in
from lorasweep.trial.resources import build_adapter


class FileSlot:
    """The files of one recipe."""

    def __init__(self, base: Base, recipe: Recipe, run: RunFolder) -> None:
        """Begin, or go on after the last file that was copied into the run folder."""
        options = recipe.adapter.options
        self._run = run
        self._files = dict(zip(options["steps"], map(Path, options["paths"]), strict=True))
        self.adapter = build_adapter(base, recipe)  # the file of `step`, in the base
        self.step = 0  # before the first
        if done := steps_in(run.checkpoints):
            self.adapter.load(run.weights(done[-1]))
            self.step = done[-1]

    def advance(self, step: int) -> None:
        """Copy the file of a step into the run folder, and load it."""
        target = self._run.weights(step).parent
        files.write_folder(target, lambda temporary: shutil.copyfile(self._files[step], temporary / ADAPTER_FILE))
        self.adapter.load(self._run.weights(step))
        self.step = step

    def for_use(self) -> AbstractContextManager[None]:
        """Do nothing: nothing trains, so the tensors are always those to judge."""
        return nullcontext()

    def close(self) -> None:
        """Take the file's adapter out of the base."""
        self.adapter.remove()
