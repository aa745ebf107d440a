"""The controls that are declared, and recipes that cannot be calibrated for."""

from __future__ import annotations

import pytest
import torch

from lorasweep.calibrate.controls import ControlOptions, sweep_of_controls
from lorasweep.errors import ConfigError

FEW = ControlOptions(times=6, rungs=5, seeds=(0, 1))


def test_one_control_is_trained_too_long_and_one_too_hot() -> None:
    spec = sweep_of_controls(["optimizer.lr=2e-3", "adapter.dim=8"], name="c", steps=100, options=FEW)
    long, hot = (arm.recipe for arm in spec.arms)
    assert [arm.name for arm in spec.arms] == ["long", "hot"] and spec.seeds == (0, 1)
    assert (long.train.max_steps, hot.train.max_steps) == (600, 200)
    assert hot.optimizer.options["lr"] == pytest.approx(3 * long.optimizer.options["lr"])
    for recipe in (long, hot):
        assert recipe.train.keep == "last" and recipe.train.rungs == 5
        assert recipe.scheduler.name == "constant" and recipe.adapter.options["dim"] == 8


def test_a_recipe_that_cannot_be_judged_is_refused_with_every_reason() -> None:
    words = ["dataset.holdout=0", "adapter=dora", "~metrics.generalisation"]
    with pytest.raises(ConfigError) as refused:
        sweep_of_controls(words, name="c", steps=100, options=FEW)
    assert {problem.where for problem in refused.value.problems} == {"dataset.holdout", "adapter", "metrics"}


@pytest.mark.parametrize("kind", ["lora", "locon", "loha", "lokr", "ia3"])
def test_a_random_adapter_is_as_large_as_the_one_it_replaces(tiny_sd: object, kind: str) -> None:
    import importlib

    from lorasweep import config
    from lorasweep.adapters._norms import changes
    from lorasweep.bases import stable_diffusion
    from lorasweep.calibrate.nulls import randomise
    from lorasweep.records import BaseOptions

    options = BaseOptions(name="stable_diffusion", path=str(tiny_sd), resolution=32, bucket_step=8)
    base = stable_diffusion.load(options, device="cpu", precision="fp32")
    knobs = config.compose_recipe([f"adapter={kind}"]).adapter.options
    adapter = importlib.import_module(f"lorasweep.adapters.{kind}").build(base, seed=0, **knobs)
    generator = torch.Generator().manual_seed(0)
    learned = {
        key: value + 0.02 * torch.randn(value.shape, generator=generator)
        for key, value in adapter.state_dict().items()
    }
    adapter.load_state_dict(learned)
    before = torch.stack([change.norm for change in changes(adapter)])
    randomise(adapter, seed=1)
    after = torch.stack([change.norm for change in changes(adapter)])
    assert before.min() > 0
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-6)
    now = adapter.state_dict()
    alike = [
        torch.nn.functional.cosine_similarity(now[key].flatten(), learned[key].flatten(), dim=0)
        for key in now
        if now[key].numel() > 64
    ]
    assert max(abs(value) for value in alike) < 0.6, "nothing of what was learned is left"
    adapter.remove()
