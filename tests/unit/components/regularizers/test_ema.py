"""The average is diffusers', training does not notice it, and it is what is judged and saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file
from tiny_training import FEW_PICTURES, THREE_RUNGS, train

from lorasweep import config, plan
from lorasweep.cli import main
from lorasweep.components.regularizers.ema import Ema
from lorasweep.config import compose_recipe
from lorasweep.core import files
from lorasweep.core.errors import ConfigError
from lorasweep.core.records import TrainOptions
from lorasweep.trial.resources import TrialResources
from lorasweep.trial.run import cook
from lorasweep.trial.train import checkpoint
from lorasweep.trial.train.loop import advance
from lorasweep.trial.train.slot import Slot

EMA: dict[str, dict[str, Any]] = {"ema": {"decay": 0.5, "warmup": True, "every": 1}}


class Walk:
    """Weights that go somewhere else at each step."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.weights = [torch.nn.Parameter(torch.randn(shape, generator=self.generator)) for shape in ((3, 2), (4,))]

    def parameters(self) -> dict[str, list[torch.nn.Parameter]]:
        return {"unet": self.weights[:1], "text_encoder": self.weights[1:]}

    def step(self) -> None:
        for each in self.weights:
            each.data += torch.randn(each.shape, generator=self.generator)


@pytest.mark.parametrize("decay", [0.6, 0.999])
def test_with_a_warm_up_it_is_diffusers(decay: float) -> None:
    walk, ema = Walk(), Ema(decay=decay, warmup=True, every=1)
    theirs = EMAModel(walk.weights, decay=decay)
    ema.start(walk)
    for _ in range(30):
        walk.step()
        theirs.step(walk.weights)
        assert ema.after_step(walk)["ema/decay"] == pytest.approx(theirs.cur_decay_value)
        with ema.for_use(walk):
            used = [each.detach().clone() for each in walk.weights]
        for ours, their in zip(used, theirs.shadow_params, strict=True):
            torch.testing.assert_close(ours, their, rtol=1e-5, atol=1e-6)
    assert all(not torch.equal(ours, each) for ours, each in zip(used, walk.weights, strict=True))


def test_without_it_what_training_starts_from_stays_in_it_by_the_decay_alone() -> None:
    walk, ema = Walk(), Ema(decay=0.9, warmup=False, every=1)
    wanted = walk.weights[0].detach().double()
    ema.start(walk)
    for _ in range(20):
        walk.step()
        ema.after_step(walk)
        wanted = 0.9 * wanted + 0.1 * walk.weights[0].detach()
    with ema.for_use(walk):
        torch.testing.assert_close(walk.weights[0].detach().double(), wanted, rtol=1e-5, atol=1e-6)


def test_every_so_many_steps_it_is_one_trainers() -> None:
    """With step counted from 0: when `(step + 1) % every == 0`, decay is `min((1 + step) / (10 + step), decay)`."""
    walk, ema = Walk(), Ema(decay=0.8, warmup=True, every=5)
    wanted = walk.weights[0].detach().clone()
    ema.start(walk)
    for step in range(60):
        walk.step()
        stays = ema.after_step(walk)["ema/decay"]
        if (step + 1) % 5 == 0:
            assert stays == min((1 + step) / (10 + step), 0.8)
            wanted.add_((1 - stays) * (walk.weights[0].detach() - wanted))
        else:
            assert stays == 1.0
    with ema.for_use(walk):
        torch.testing.assert_close(walk.weights[0].detach(), wanted, rtol=1e-5, atol=1e-6)


def averages(slot: Slot) -> dict[str, torch.Tensor]:
    with slot.for_use():
        return slot.adapter.state_dict()


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(each, theirs[key]) for key, each in ours.items())


def test_training_does_not_notice_it_and_resumed_equals_uninterrupted(new_slot: Any, base: Any, tmp_path: Path) -> None:
    plain = new_slot()
    train(plain, base, 6)
    wanted = plain.adapter.state_dict()
    plain.close()
    straight = new_slot(regularization=EMA)
    rows = train(straight, base, 6)
    assert same(straight.adapter.state_dict(), wanted), "the weights that train"
    average = averages(straight)
    assert same(straight.adapter.state_dict(), wanted), "and they are back"
    assert not any(torch.equal(each, wanted[key]) for key, each in average.items())
    assert [row["train/ema/decay"] for row in rows] == [0.0, 2 / 11, 3 / 12, 4 / 13, 5 / 14, 6 / 15]
    straight.close()

    first = new_slot(regularization=EMA)
    train(first, base, 3)
    folder = checkpoint.save(first, tmp_path / "checkpoints")
    assert same(load_file(folder / "adapter.safetensors"), averages(first)), "saved is what is used"
    first.close()
    second = new_slot(regularization=EMA)
    assert checkpoint.restore(second, tmp_path / "checkpoints") == 3
    train(second, base, 3)
    assert same(second.adapter.state_dict(), wanted) and same(averages(second), average)


def test_it_averages_what_other_brakes_have_left(new_slot: Any, base: Any) -> None:
    found = []
    for names in (["scale_norm", "ema"], ["ema", "scale_norm"]):
        knobs = {**EMA, "scale_norm": {"max_norm": 0.001}}
        slot = new_slot(regularization={name: knobs[name] for name in names})
        train(slot, base, 4)
        found.append(averages(slot))
        slot.close()
    assert same(*found)


def test_packed_each_has_the_average_that_it_reaches_alone(
    new_slot: Any, base: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    base.unet.double()
    base.dtype = torch.float64

    def in_double(seed: int) -> Slot:
        one_size = TrainOptions(batch_size=2, max_grad_norm=0.01, device="cpu")
        made: Slot = new_slot(train=one_size, seed=seed, regularization=EMA)
        for parameter in made.parameters():
            parameter.data = parameter.data.double()
        assert made.average is not None
        made.average.start(made.adapter)
        return made

    alone = []
    for seed in (1, 2):
        slot = in_double(seed)
        train(slot, base, 3)
        alone.append(averages(slot))
        slot.close()
    slots = [in_double(seed) for seed in (1, 2)]
    asked: list[int] = []
    base.unet.register_forward_pre_hook(lambda unet, arguments: asked.append(len(arguments[0])))
    advance(slots, base, steps=3, on_step=lambda slot, metrics: None)
    assert max(asked) == 4, "two share a forward"
    for slot, reached in zip(slots, alone, strict=True):
        for key, tensor in averages(slot).items():
            assert (tensor - reached[key]).abs().max() <= 1e-12 * reached[key].abs().max(), key


@pytest.mark.usefixtures("quick_trials")
def test_it_is_what_a_trial_judges_draws_and_keeps(home: Path, on_tiny_sd: list[str]) -> None:
    words = [*THREE_RUNGS, *FEW_PICTURES, *on_tiny_sd, "train.keep=last", "optimizer.lr=1e-3"]
    brake = ["regularization=ema", "regularization.ema.warmup=false", "regularization.ema.decay=0.9"]
    for name, more in (("plain", []), ("ema", brake)):
        recipe = config.compose_recipe([*words, *more])
        cook(
            recipe,
            plan.make_plan(recipe),
            home / name,
            TrialResources(),
            report=lambda event: True,
            should_stop=lambda: False,
        )
    trained = [load_file(home / name / "checkpoints/step_000006/state.safetensors") for name in ("plain", "ema")]
    used = [load_file(home / name / "adapter.safetensors") for name in ("plain", "ema")]
    for key, tensor in used[0].items():
        assert torch.equal(trained[0][f"adapter/{key}"], tensor)
        assert torch.equal(trained[1][f"adapter/{key}"], tensor), "the same training"
        assert not torch.equal(used[1][key], tensor), "another file"
    results = [files.read_json(home / name / "metrics.json") for name in ("plain", "ema")]
    key = "generalisation/held_out"
    for result in results:  # the rung was judged from memory, the kept checkpoint from its file
        assert result["metrics"][key] == pytest.approx(result["rungs"][-1]["metrics"][key], rel=1e-6)
    assert results[0]["metrics"][key] != results[1]["metrics"][key]


def test_what_averages_already_is_refused_and_a_bad_decay() -> None:
    with pytest.raises(ConfigError, match="ema cannot be beside schedule_free_adamw: each says which average"):
        compose_recipe(["regularization=ema", "optimizer=schedule_free_adamw"])
    with pytest.raises(ConfigError, match=r"regularization.ema.decay  must be in \(0, 1\), got 1"):
        compose_recipe(["regularization=ema", "regularization.ema.decay=1"])
    found = compose_recipe(["regularization=ema", "optimizer=prodigy"])
    assert found.regularization == {"ema": {"decay": 0.99, "warmup": True, "every": 1}}


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("words", "left"),
    [
        (["decay=0.999", "warmup=false"], "74%"),  # 0.999 ** 300
        (["every=301"], "100%"),
        (["decay=0.99", "warmup=false"], None),  # 0.99 ** 300 is 5 %
        (["decay=0.9999"], None),
    ],
)
def test_an_average_that_training_hardly_reaches_is_told_of(
    words: list[str], left: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = [f"regularization.ema.{word}" for word in words]
    assert main(["plan", "regularization=ema", "train.max_steps=300", *typed]) == 0
    said = " ".join(capsys.readouterr().out.split())
    told = f"after 300 steps {left} of what ema judges and saves are the weights from before training"
    assert (told in said) if left else ("from before training" not in said)
    assert ("warmup=true" in said) == (left is not None and "warmup=false" in words)
