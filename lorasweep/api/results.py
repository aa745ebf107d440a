"""What lies in the run folders: where sweeps stand, reports, exports, MLflow, ratings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorasweep import config
from lorasweep.core import paths
from lorasweep.core.errors import InputError, Problem, no_counts
from lorasweep.core.run_folder import EXPORTS, REPORT_FILE, REPORT_TEXT_FILE, SweepFolder
from lorasweep.results import runs
from lorasweep.results.handles import Named, Run, Sweep, named_by
from lorasweep.results.ratings import Rated, read_rated
from lorasweep.sweep.ranking.state import SweepState, read_state

if TYPE_CHECKING:
    from lorasweep.results.export import Exported
    from lorasweep.results.export.forms import Form
    from lorasweep.results.tracking.mirror import SyncReport


def status(named: Named) -> SweepState:
    """Read where a sweep's trials stand, as `open_sweep` takes it; `train` for the single runs.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    return read_state(runs.find_sweep(named_by(named), subject="status"))


def report(named: Named, out: str | Path | None = None) -> tuple[Path, Path]:
    """Write a sweep's answer as one page into a folder, None: the sweep's own; returns the HTML and the Markdown file.

    Raises:
        InputError: there is no such sweep, or they cannot be written there, or something else lies there.
    """
    from lorasweep.results.report.write import is_ours, write_report

    folder = runs.find_sweep(named_by(named), subject="report")
    out = None if out is None else paths.typed(out)
    paths.require_writable(out or folder, option="--out")
    if out is not None:
        for name in (REPORT_FILE, REPORT_TEXT_FILE):
            paths.require_replaceable(out / name, is_ours, option="--out")
    return write_report(folder, out)


def checkpoint(named: Named, *, best: bool = False, step: int | None = None) -> runs.Checkpoint:
    """Find an adapter that a run saved.

    Named is a run, as `open_run` takes it, or with `best` a sweep, whose best run it is; without a rung's step, it is
    the checkpoint that the run kept.

    Raises:
        InputError: there is none.
    """
    if step is not None and (problems := no_counts(step=step)):
        raise InputError(problems, subject="export")
    if best:
        sweep = runs.find_sweep(named_by(named), subject="export")
        if not SweepFolder(sweep).is_declared:
            message = f"wants a sweep, and {named_by(named)} is none"
            raise InputError(Problem("--best", message, "leave it out for a run folder"), subject="export")
        named = runs.best_of(sweep, subject="export")
    return runs.find_checkpoint(named_by(named), subject="export", step=step)


def export(
    saved: runs.Checkpoint | Named,
    out: str | Path | None = None,
    *,
    best: bool = False,
    step: int | None = None,
    form: Form | None = None,
    readers: str | Sequence[str] = (),
    **how: Any,
) -> list[Exported]:
    """Write an adapter as a file for ComfyUI, Forge, A1111, kohya's tools or diffusers.

    Saved is a `checkpoint`, or with `best` and `step` what that is found by; `out` a .safetensors or a folder, None:
    `export/` in the run folder; no `form` is the smallest that `readers` read; `how` is as
    `results.export.export_run` takes it.

    Raises:
        InputError: there is no such run, or it cannot be written so; nothing was.
    """
    from lorasweep.results.export import export_run, forms

    if not isinstance(saved, runs.Checkpoint):
        saved = checkpoint(saved, best=best, step=step)
    out = None if out is None else paths.typed(out)
    place = saved.folder / EXPORTS if out is None else out
    paths.require_writable(place if place.is_dir() else place.parent, option="--out")
    given = config.texts([readers], "readers")
    form = form or forms.smallest_form(saved.recipe.adapter.name, given, base=saved.recipe.base.name)
    return export_run(saved, out=out, form=form, **how)


def sync(*named: Named) -> dict[str, SyncReport]:
    """Bring sweeps up to date in MLflow, from their folders; without names, all of them.

    Returns:
        What was done, by the name of the sweep's folder; `problems` of each says what is still missing.

    Raises:
        InputError: there is no such sweep, or the address of the tracking server is none.
    """
    from lorasweep.results.tracking import address, mirror

    folders = [runs.find_sweep(named_by(name), subject="sync") for name in named] or runs.sweep_folders()
    for folder in folders:
        with suppress(InputError):  # a damaged sweep.yaml: the mirror names it
            runs.settle(folder)
    if wrong := address.address_problem(address.tracking_uri()):
        raise InputError(wrong, subject="sync")
    with address.masked_stderr():
        return {folder.name: mirror.sync_folder(folder) for folder in folders}


def rate(
    named: Named, *, rater: str = "me", most: int = 60, port: int | None = None, open_browser: bool = True
) -> list[Rated]:
    """Let somebody compare pictures of a sweep's arms, or of a run's steps, blind, in a browser on this machine.

    `most` answers are enough, those of earlier calls included; the other knobs are those of `lorasweep rate --help`.
    Returns what everybody's answers say, this one's included.

    Raises:
        InputError: there is nothing to compare, no answer can be kept, or the port is taken.
    """
    from lorasweep.results.rate.server import serve
    from lorasweep.results.rate.session import Session, contest

    if not re.fullmatch(r"\w[\w.-]{0,39}", rater, re.ASCII) or not paths.is_portable(rater):
        message = f"must be up to 40 letters, digits, `_`, `-` or `.`, got {rater!r}"
        raise InputError(Problem("--rater", message, "e.g. --rater anna"), subject="rate")
    if problems := no_counts(most=most):
        raise InputError(problems, subject="rate")
    if not 0 <= (port or 0) < 1 << 16:
        raise InputError(Problem("--port", f"must be from 1 to 65535, got {port}"), subject="rate")
    folder = runs.find_sweep_or_run(named_by(named), subject="rate")
    session = Session(contest=contest(folder), rater=rater, most=most)
    if not session.why_over():
        paths.require_writable(folder)
        serve(session, port=port or 0, open_browser=open_browser)
    return read_rated(folder)


def ratings(named: Named) -> list[Rated]:
    """Read what everybody said of a sweep's arms, or of a run's steps; nothing when nobody did.

    Raises:
        InputError: there is no such sweep or run.
    """
    return read_rated(runs.find_sweep_or_run(named_by(named), subject="rate"))


def sweeps() -> list[Sweep]:
    """List the sweeps in the output folder, by name."""
    return [Sweep(folder) for folder in runs.sweep_folders()]


def open_run(named: Named) -> Run:
    """Open a run: SWEEP/TRIAL, SWEEP/NUMBER, a path, or one that is in hand.

    Raises:
        InputError: there is none.
    """
    return Run(runs.find_run(named_by(named), subject="open_run", to_cook=False).folder)


def open_sweep(named: Named) -> Sweep:
    """Open a sweep: its name, its file, its folder, or one that is in hand.

    Raises:
        InputError: there is none.
    """
    return Sweep(runs.find_sweep(named_by(named), subject="open_sweep"))
