"""How to get any row of a report again: the commands, the seed, the versions, the fingerprints.

Commands are spelled for a shell. Knows nothing about HTML.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping

from lorasweep import config
from lorasweep.core.errors import InputError
from lorasweep.core.run_folder import RECIPE_FILE
from lorasweep.results.report.reading import TrialFindings


def again(trial: TrialFindings) -> str:
    """The command that trains a trial again on this machine, from its run folder."""
    return f"lorasweep train --from {shlex.quote(trial.run.name)}"


def commands(trial: TrialFindings) -> Iterator[str]:
    """Train it again here, export its adapter, and train it on another machine, where paths in it are to be changed.

    The last is left out of a recipe that cannot be spelled.
    """
    yield again(trial)
    yield f"lorasweep export {shlex.quote(trial.run.name)}"
    try:
        words = config.to_overrides(config.read_recorded(trial.run.path / RECIPE_FILE))
    except InputError:
        return
    yield " ".join(["lorasweep train", *map(shlex.quote, words)])


def facts(trial: TrialFindings) -> Iterator[tuple[str, str]]:
    """Seed, fingerprint, versions, commit, machine and parent, as (what, which): those that are known."""
    yield "seed", str(trial.state.seed)
    if trial.state.fingerprint:
        yield "fingerprint", trial.state.fingerprint
    made_with = trial.run.provenance
    libraries, git = made_with.get("libraries"), made_with.get("git")
    if "lorasweep" in made_with:
        yield "lorasweep", str(made_with["lorasweep"])
    if isinstance(git, Mapping) and git.get("commit"):
        yield "commit", f"{git['commit']}{', with changes that were not committed' if git.get('dirty') else ''}"
    if isinstance(libraries, Mapping):
        yield from ((str(name), str(version)) for name, version in libraries.items() if version)
    yield from ((key, str(made_with[key])) for key in ("python", "platform") if made_with.get(key))
    if parent := trial.run.parent.get("parent"):
        yield "forked from", str(parent)
