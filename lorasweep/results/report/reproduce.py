"""How to get any row of a report again: the commands, the seed, the versions, the fingerprints.

    TrialFindings  ->  Reproduction

Commands are spelled for a shell. Knows nothing about HTML.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lorasweep import config
from lorasweep.core.errors import InputError
from lorasweep.results.report.reading import TrialFindings


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """What it takes to cook one trial again.

    Attributes:
        again: on this machine, from the run folder.
        elsewhere: what to type on another; None when the recipe cannot be spelled.
        export: the adapter as a file for UIs.
        seed: of every draw.
        fingerprint: of recipe, images, captions and base: equal ones mean equal results.
        made_with: versions, commit and machine, as (what, which).
    """

    again: str
    elsewhere: str | None
    export: str
    seed: int
    fingerprint: str
    made_with: Sequence[tuple[str, str]]


def reproduction(trial: TrialFindings) -> Reproduction:
    """Say how to cook a trial again."""
    place = shlex.quote(f"{trial.folder.parent.name}/{trial.name}")
    return Reproduction(
        again=f"lorasweep train --from {place}",
        elsewhere=_elsewhere(trial),
        export=f"lorasweep export {place}",
        seed=trial.state.seed,
        fingerprint=trial.fingerprint,
        made_with=_made_with(trial.provenance),
    )


def _elsewhere(trial: TrialFindings) -> str | None:
    """The recipe as one command; paths in it are this machine's."""
    try:
        words = config.to_overrides(config.read_recorded(trial.folder / "recipe.yaml"))
    except InputError:
        return None
    return " ".join(["lorasweep train", *map(shlex.quote, words)])


def _made_with(provenance: Mapping[str, object]) -> list[tuple[str, str]]:
    libraries, git = provenance.get("libraries"), provenance.get("git")
    found = [("lorasweep", str(provenance["lorasweep"]))] if "lorasweep" in provenance else []
    if isinstance(git, Mapping) and git.get("commit"):
        dirty = ", with changes that were not committed" if git.get("dirty") else ""
        found.append(("commit", f"{git['commit']}{dirty}"))
    if isinstance(libraries, Mapping):
        found += [(str(name), str(version)) for name, version in libraries.items() if version]
    found += [(key, str(provenance[key])) for key in ("python", "platform") if provenance.get(key)]
    return found
