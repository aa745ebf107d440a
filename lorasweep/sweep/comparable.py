"""Which symptoms a sweep's trials are compared by: those that every one of them can measure.

    SweepSpec + Plans  ->  {"rise": "arm all_in: there are no held-out images"}

An arm that measures less must not rank higher for it. What an arm can measure is known from its plan, so
what is left out of the sweep's overcook/score and overcook/utility is settled before the first trial and
written into sweep.yaml: what Optuna is told, what pruners hear and what the leaderboard shows are one number.
Should a trial fail to measure in the end what its plan promised, `ranking.state` leaves that symptom out of the
ranking as well; what Optuna was told by then stays. A trial's own metrics.json and verdict know all that it
measured. No torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lorasweep.core.errors import Problem
from lorasweep.core.printable import some
from lorasweep.core.records import Plan, Recipe
from lorasweep.plan import calibration
from lorasweep.plan.symptoms import SYMPTOMS
from lorasweep.trial.judge import offered, score

if TYPE_CHECKING:
    from lorasweep.config import SweepSpec

SCORES = (score.SCORE, score.UTILITY)


def left_out(spec: SweepSpec, plans: Mapping[str, Plan]) -> dict[str, str]:
    """Find the symptoms that some arms can measure and others cannot, each with who and why.

    `plans` are those of the arms and of the corners of the space, by name.
    """
    lacking: dict[str, list[tuple[str, str]]] = {symptom.name: [] for symptom in SYMPTOMS}
    for arm, offer in offers(spec, plans).items():
        for symptom in lacking:
            if why := offer.at_rungs[f"overcook/{symptom}"]:
                lacking[symptom].append((arm, why))
    return {
        symptom: f"arm {arms[0][0]}: {arms[0][1]}"
        for symptom, arms in lacking.items()
        if 0 < len(arms) < len(spec.known)
    }


def offers(spec: SweepSpec, plans: Mapping[str, Plan]) -> dict[str, offered.Offer]:
    """Find what judging can give of each arm and corner, by name; their plans are given by name too."""
    return {
        arm.name: offered.offer(arm.recipe, plans[arm.name], calibration.of_today(arm.recipe)) for arm in spec.known
    }


def problems(spec: SweepSpec) -> Iterator[Problem]:
    """Refuse to compare utilities of which some are made of the identity and some of its stand-in."""
    wanted = [each.name for each in spec.objectives] + [spec.pruner.metric or ""]
    reading = [arm.name for arm in spec.known if "identity" in arm.recipe.metrics]
    others = [arm.name for arm in spec.known if arm.name not in reading]
    if score.UTILITY in wanted and reading and others:
        lacks = f"arm {others[0]} does not measure identity, arm {reading[0]} does"
        message = f"{score.UTILITY} cannot be compared: {lacks}"
        hint = "measure identity in every arm or in none, or sweep.metric.name=overcook/score"
        yield Problem("sweep.metric.name", message, hint)


def asked_otherwise(spec: SweepSpec, plans: Mapping[str, Plan]) -> list[str]:
    """List sentences about arms whose pictures or images to judge by are others than the first arm's."""
    first, *others = (_asked_of(arm.recipe, plans[arm.name]) for arm in spec.known)
    differing: dict[str, list[str]] = {}
    for arm, asked in zip(spec.known[1:], others, strict=True):
        for what in asked:
            if asked[what] != first[what]:
                differing.setdefault(what, []).append(arm.name)
    return [
        f"{some(names)}: judged by another {what} than {spec.known[0].name}, so their scores do not compare"
        for what, names in differing.items()
    ]


def _asked_of(recipe: Recipe, plan: Plan) -> dict[str, Any]:
    drawn = {f"sample.{key}": value for key, value in vars(recipe.sample).items() if key != "batch_size"}
    base = (recipe.base.name, recipe.base.path, recipe.base.weights)
    held_out = sorted(image.sha256 for image in plan.held_out_images())
    return {"base": base, "base.resolution": recipe.base.resolution, "set of held-out images": held_out, **drawn}


def told(left_out: Mapping[str, str]) -> list[str]:
    """Return sentences about what was left out, the symptoms of one reason together."""
    by_reason: dict[str, list[str]] = {}
    for symptom, why in left_out.items():
        by_reason.setdefault(why, []).append(symptom)
    return [f"compared without {', '.join(names)} ({why})" for why, names in by_reason.items()]


def several_devices(models: Iterable[str]) -> list[str]:
    """Return a sentence when trials were trained on GPUs of several models; "" is a model that nobody told."""
    known = sorted({*models} - {""})
    words = "weights differ in their last digits between them, and so does what a step takes"
    return [f"trained on {' and '.join(known)}: {words}"] if len(known) > 1 else []


def several_calibrations(verdicts: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a sentence when trials were judged by the limits of several calibrations."""
    known = sorted({str(verdict["calibration"]) for verdict in verdicts if verdict.get("calibration")})
    words = f"judged by {len(known)} calibrations: their scores do not compare ({', '.join(known)})"
    return [words] if len(known) > 1 else []
