"""The base model's own samples of a sweep: whether they are there, and whether another sweep has them.

They are drawn for the sweep's first trial, its prompts and its sampling, before any trial is cooked. When
that trial is reused from a sweep whose first trial it was too, its folder of base samples is taken as well.
Knows nothing about workers.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from lorasweep.core.files import link_or_copy, write_folder
from lorasweep.core.run_folder import BASE_SAMPLES, INDEX_FILE
from lorasweep.sweep.result_cache import Cooked

FIRST = 0  # number of the trial they are drawn for
log = logging.getLogger(__name__)


class BaseSamples:
    """Those of one sweep."""

    def __init__(self, sweep_folder: Path) -> None:
        self.folder = sweep_folder / BASE_SAMPLES
        self.wanted = not _whole(self.folder)  # still to be drawn

    def take_from(self, cooked: Cooked, *, number: int) -> None:
        """Take those that were drawn for the same recipe elsewhere, if there are any.

        Args:
            cooked: the trial of the other sweep.
            number: of the trial here that has the same fingerprint.
        """
        theirs = cooked.folder.parent / BASE_SAMPLES
        if not (number == cooked.record.number == FIRST and self.wanted and _whole(theirs)):
            return
        try:
            write_folder(self.folder, lambda temporary: _copy(theirs, temporary))
        except OSError as error:  # they can be drawn all the same
            log.info("%s could not be copied: %s", theirs, error)
        else:
            self.wanted = False


def _whole(folder: Path) -> bool:
    return (folder / INDEX_FILE).exists()


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, copy_function=link_or_copy, dirs_exist_ok=True)
