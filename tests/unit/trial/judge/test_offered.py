"""What a recipe's metrics are said to give before training is what judging a real, tiny run gives."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_encoders import write_clip, write_dino, write_sscd

from lorasweep import config, plan
from lorasweep.components.metrics import _resemblance
from lorasweep.core import files, registry
from lorasweep.core.records import BaseOptions
from lorasweep.plan import calibration
from lorasweep.trial.judge import offered

pytestmark = pytest.mark.usefixtures("quick_trials")
TINY = [
    "train.max_steps=2",
    "train.rungs=1",
    "train.batch_size=2",
    "adapter.dim=2",
    "sample.steps=1",
    "sample.seeds=[0]",
    "sample.weights=[0.7]",
    "dataset.dollhouse.images=8",
    "tracking=none",
    f"metrics=[{','.join(registry.names('metrics'))}]",
    "metrics.generalisation.weights=[1.0]",
    "metrics.prior_drift.weights=[1.0]",
    "metrics.identity.also=[base]",
    "metrics.prompt_control.also=[base]",
]
# What may be missing though it is offered, for nobody can know how a run will come out.
BY_CHANCE = (
    "trigger_selectivity/score",
    "prompt_control/score",
    "overcook/control",
    "overcook/done_at",
    "overcook/burned_at",
    "overcook/safe_window",
)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # of SSCD
@pytest.mark.parametrize("kind", ["dollhouse", "stable_diffusion", "published encoders"])
def test_what_is_offered_is_what_a_run_is_judged_by(
    kind: str, tiny_sd: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lorasweep.components.bases import stable_diffusion
    from lorasweep.trial.resources import TrialResources
    from lorasweep.trial.run import cook

    words = [*TINY]
    if kind != "dollhouse":
        words += ["base=stable_diffusion", f"base.path={tiny_sd}", "base.resolution=32", "base.bucket_step=8"]
        words += ["adapter.text_encoder=true", "optimizer.lr=1e-2", "buckets=kohya"]
    if kind == "published encoders":
        (home / "dino").mkdir()
        (home / "clip").mkdir()
        write_dino(home / "dino")
        words += [f"encoders.clip={write_clip(home / 'clip', tiny_sd)}", f"encoders.dino={home / 'dino'}"]
        words += [f"encoders.sscd={write_sscd(home / 'sscd.pt')}"]
        monkeypatch.setattr(_resemblance, "LEAST_SPAN", -1.0)  # random ones are blind
    recipe = config.compose_recipe(words)
    planned = plan.make_plan(recipe)
    fingerprint = _dollhouse_fingerprint if kind == "dollhouse" else stable_diffusion.fingerprint
    limits = calibration.find(recipe, fingerprint(recipe.base)).calibration
    offer = offered.offer(recipe, planned, limits)

    cook(recipe, planned, home / "run", TrialResources(), report=lambda event: True, should_stop=lambda: False)
    judged = files.read_json(home / "run" / "metrics.json")
    (rung,) = judged["rungs"]

    for told, found in (
        (offer.at_rungs, rung),
        (
            {**offer.in_the_end, **offer.at_rungs},
            {"metrics": judged["metrics"], "missing": judged["missing"]},
        ),
    ):
        can = {name for name, why in told.items() if not why}
        assert found["metrics"].keys() <= can, found["metrics"].keys() - can
        absent = can - found["metrics"].keys()
        assert all(name.startswith(BY_CHANCE) for name in absent), absent
        if kind == "published encoders":
            by_them = {"identity/held_out_resemblance", "memorisation/copy_rate_sscd", "prompt_control/accuracy"}
            assert by_them <= found["metrics"].keys()


def _dollhouse_fingerprint(options: BaseOptions) -> str:
    from lorasweep.components.bases import dollhouse

    return dollhouse.fingerprint(options)


def test_one_weight_is_no_ladder(home: Path) -> None:
    recipe = config.compose_recipe(["sample.weights=[]", "dataset.dollhouse.images=8"])
    limits = calibration.read(calibration.NEAREST)
    assert "one weight" in offered.offer(recipe, plan.make_plan(recipe), limits).in_the_end["overcook/best_weight"]


def test_directions_are_those_of_the_score() -> None:
    assert offered.better("overcook/score") == "minimize" == offered.better("burn/score")
    assert offered.better("overcook/utility") == "maximize" == offered.better("diversity/relative")
    assert offered.better("norms/relative") is None
