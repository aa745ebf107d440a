"""G, P and S in closed form, on a real UNet with a real LoRA."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import numpy as np
import pytest
import shipped
import torch

from lorasweep.components.adapters import lora
from lorasweep.components.metrics import generalisation, prior_drift, trigger_selectivity
from lorasweep.core.judging import Rows
from lorasweep.trial.judge import judge, probes


def at(context: Any, **changes: Any) -> Any:
    """The same situation, with nothing remembered."""
    return dataclasses.replace(context, _cache={}, answers={}, **changes)


def rows(adapted: list[float], base: list[float], timestep: list[int], image: list[int]) -> Rows:
    return Rows(
        adapted=torch.tensor(adapted, dtype=torch.float64),
        base=torch.tensor(base, dtype=torch.float64),
        timestep=torch.tensor(timestep),
        image=torch.tensor(image),
    )


def test_an_untrained_adapter_has_no_gap_no_drift_and_no_gain(context: Any) -> None:
    found = generalisation.build(weights=[1.0]).measure(context)
    assert found.values["generalisation/gap"] == pytest.approx(0, abs=1e-6)
    assert found.values["generalisation/held_out"] == pytest.approx(1, abs=1e-6)
    assert found.values["generalisation/rise"] == pytest.approx(0, abs=1e-6)
    assert prior_drift.build(weights=[]).measure(context).values["prior_drift/class"] < 1e-10
    selectivity = trigger_selectivity.build(min_gain=0.01).measure(context)
    assert selectivity.values["trigger_selectivity/gain"] == pytest.approx(0, abs=1e-6)
    assert "nothing was learned yet" in selectivity.missing["trigger_selectivity/score"]


def test_identical_sets_have_no_gap_whatever_the_adapter(context: Any, perturb: Any) -> None:
    perturb(context.adapter, 0.1)
    same = context.probes.sets | {"held_out": context.probes.sets["train"]}
    twice = at(context, probes=dataclasses.replace(context.probes, sets=same))
    found = generalisation.build(weights=[]).measure(twice).values
    assert abs(found["generalisation/train"] - 1) > 1e-3, "the adapter must act"
    assert found["generalisation/gap"] == 0
    apart = generalisation.build(weights=[]).measure(at(context)).values
    assert abs(apart["generalisation/gap"]) > 1e-4 and apart["generalisation/gap_se"] > 0


def test_loss_ratios_agree_with_a_plain_computation(context: Any, perturb: Any) -> None:
    perturb(context.adapter, 0.1)
    found = generalisation.build(weights=[]).measure(context).values["generalisation/train"]
    sums: dict[int, list[float]] = {}
    with torch.no_grad():
        for batch in context.probes.sets["train"]:
            for row in range(len(batch.captions)):
                one = slice(row, row + 1)
                losses = []
                for weight in (0.7, 0.0):
                    context.adapter.set_weight(weight)
                    text = context.base.encode_captions([batch.captions[row]])["embeds"]
                    guess = context.base.unet(batch.noisy_BCHW[one], batch.t_B[one], encoder_hidden_states=text).sample
                    losses.append(float(torch.nn.functional.mse_loss(guess, batch.target_BCHW[one])))
                total = sums.setdefault(int(batch.timestep_B[row]), [0.0, 0.0])
                total[0] += losses[0]
                total[1] += losses[1]
    context.adapter.set_weight(1.0)
    expected = np.exp(np.mean([np.log(adapted / base) for adapted, base in sums.values()]))
    assert found == pytest.approx(expected, rel=1e-4)


def test_drift_grows_with_the_weight_and_is_nothing_at_zero(context: Any, perturb: Any) -> None:
    perturb(context.adapter, 0.1)
    metric = prior_drift.build(weights=[0.0, 0.2])
    found = metric.measure(context).values
    for tier in ("class", "unrelated"):
        none, some, more = (found[f"prior_drift/{tier}{end}"] for end in ("_w0", "_w0.2", ""))
        assert none == 0
        assert 0 < some < more


def test_drift_is_the_ratio_of_means_and_not_the_mean_of_ratios() -> None:
    assert prior_drift.drift(rows([1.0, 1.0], [1.0, 3.0], [10, 20], [0, 1])) == 0.5


def test_selectivity_is_one_without_gain_and_zero_with_equal_gain() -> None:
    half = rows([1.0, 2.0], [2.0, 4.0], [10, 20], [0, 0])
    assert trigger_selectivity.gain(half) == pytest.approx(np.log(2))
    whole = rows([2.0, 4.0], [2.0, 4.0], [10, 20], [0, 0])

    class Answers:
        def __init__(self, without: Rows) -> None:
            self.plan = type("P", (), {"trigger": "zkw"})
            self.probe_sets = {"train"}
            self.weight, self._without = 0.7, without

        def losses(self, name: str, weight: float, trigger: bool = True) -> Rows:
            return half if trigger else self._without

    metric = trigger_selectivity.build(min_gain=0.01)
    for without, expected in ((whole, 1.0), (half, 0.0)):
        found = metric.measure(Answers(without))  # type: ignore[arg-type]
        assert found.values["trigger_selectivity/score"] == pytest.approx(expected)


def test_standard_error_is_over_images_and_rise_over_history() -> None:
    train = rows([2.0, 2.0], [1.0, 1.0], [10, 10], [0, 1])
    held_out = rows([np.e, np.e**3], [1.0, 1.0], [10, 10], [0, 1])
    assert generalisation.standard_error(train, held_out) == pytest.approx(1.0)  # sqrt(2 / 2) of logs 1 and 3
    assert generalisation.standard_error(train, rows([1.0], [1.0], [10], [0])) is None
    assert generalisation.rise(0.9, [0.8, None]) == pytest.approx(np.log(0.9 / 0.8))
    assert generalisation.rise(1.2, []) == pytest.approx(np.log(1.2))
    assert generalisation.rise(0.7, [0.8]) == 0


def test_sets_without_images_are_missing_with_a_reason(context: Any) -> None:
    sets = {name: batches for name, batches in context.probes.sets.items() if name != "held_out"}
    found = generalisation.build(weights=[]).measure(at(context, probes=dataclasses.replace(context.probes, sets=sets)))
    assert "generalisation/train" in found.values
    assert "dataset.holdout" in found.missing["generalisation/gap"]


def test_judging_leaves_no_trace(context: Any, perturb: Any) -> None:
    perturb(context.adapter, 0.1)
    adapter_before = context.adapter.state_dict()
    base_before = {key: value.clone() for key, value in context.base.unet.state_dict().items()}
    grads = [p.requires_grad for part in context.adapter.parameters().values() for p in part]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    found = judge(context, {"generalisation": {"weights": [1.0]}, "prior_drift": {"weights": []}})
    assert found.values["prior_drift/class"] > 0
    assert all(torch.equal(value, adapter_before[key]) for key, value in context.adapter.state_dict().items())
    assert all(torch.equal(value, base_before[key]) for key, value in context.base.unet.state_dict().items())
    assert [p.requires_grad for part in context.adapter.parameters().values() for p in part] == grads
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]


def test_probes_do_not_see_a_living_adapter(context: Any, build_probes: Any, perturb: Any) -> None:
    perturb(context.adapter, 0.1)
    again = build_probes()
    assert again is not context.probes
    for name, batches in again.sets.items():
        for batch, before in zip(batches, context.probes.sets[name], strict=True):
            assert torch.equal(batch.noisy_BCHW, before.noisy_BCHW)
            assert torch.equal(batch.base_BCHW, before.base_BCHW)


def test_an_adapted_text_encoder_is_judged_through_its_own_embeddings(context: Any, perturb: Any) -> None:
    adapter = shipped.build(lora, context.base, seed=0, dim=4, alpha=4.0, targets="attn", text_encoder=True)
    state = adapter.state_dict()
    adapter.load_state_dict({k: v + 0.5 * k.startswith("text_encoder") for k, v in state.items()})
    try:
        rows = at(context, adapter=adapter).losses("train", 0.7)
        assert float((rows.adapted - rows.base).abs().max()) > 1e-5
        silent = at(context, adapter=adapter).losses("train", 0.0)
        assert torch.allclose(silent.adapted, silent.base, rtol=1e-5)
        apart = at(context, adapter=adapter)
        both, unet, text = (apart.losses("train", 0.7, part=part).adapted for part in ("both", "unet", "text_encoder"))
        # Only the text encoder's weights were moved: it alone is all of the change, the UNet's none.
        assert torch.allclose(text, both, rtol=1e-4)
        assert torch.allclose(unet, rows.base, rtol=1e-5)
        measured = generalisation.build(weights=[]).measure(apart).values
        assert measured["generalisation/train_unet"] == pytest.approx(1, abs=1e-5)
        assert abs(measured["generalisation/train_text_encoder"] - 1) > 1e-6
        drifted = prior_drift.build(weights=[]).measure(apart).values
        assert drifted["prior_drift/class_unet"] < 1e-9 < drifted["prior_drift/class_text_encoder"]
    finally:
        adapter.remove()


def test_v_prediction_targets_lead_back_to_the_latent(
    base: Any, recipe: Any, plan: Any, build_probes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "path", dataclasses.replace(base.path, prediction="v_prediction"))
    batch = build_probes().sets["train"][0]
    alpha_B111 = base.path.alpha_bar_T[batch.t_B].reshape(-1, 1, 1, 1)
    # v = sqrt(alpha) eps - sqrt(1 - alpha) x (Salimans and Ho 2022, appendix D), solved for x
    latent_BCHW = alpha_B111.sqrt() * batch.noisy_BCHW - (1 - alpha_B111).sqrt() * batch.target_BCHW
    same = [latent_BCHW[row] for row in range(len(batch.captions)) if batch.image_B[row] == batch.image_B[0]]
    assert len(same) > 1 and all(torch.allclose(one, same[0], atol=1e-4) for one in same)


def test_gaps_by_timestep_average_to_the_gap(context: Any, perturb: Any) -> None:
    perturb(context.adapter, 0.1)
    found = generalisation.build(weights=[]).measure(at(context)).values
    gaps = [found[f"generalisation/gap_t{t}"] for t in context.probes.timesteps]
    assert len(set(gaps)) == 4
    assert np.mean(gaps) == pytest.approx(found["generalisation/gap"])
    assert found["generalisation/gap_high_noise"] == pytest.approx(gaps[-1])


def test_the_digest_is_of_what_is_asked(context: Any, plan: Any, build_probes: Any) -> None:
    first = context.probes.digest
    assert build_probes().digest == first
    told = probes.described(context.probes)
    assert told["digest"] == first and told["rows"]["train"] > 0
    plan.prompts = plan.prompts | {"class": ("1girl, hat",)}
    assert build_probes().digest != first


def test_tiers_of_drift_from_near_to_far(context: Any, recipe: Any, plan: Any, build_probes: Any) -> None:
    plain = {words for batch in context.probes.sets["plain"] for words in batch.captions}
    assert plain and not any("zkw" in words for words in plain)
    missing = prior_drift.build(weights=[]).measure(context).missing
    assert "neighbour_prompts" in missing["prior_drift/neighbour"]
    recipe.base.neighbour_prompts = ("smile",)
    plan.prompts = plan.prompts | {"class": tuple(plain)[:1]}
    derived = build_probes().sets
    assert "plain" not in derived and "neighbour" in derived


def test_few_images_get_more_noises(context: Any) -> None:
    draws = {name: {b.draw for b in context.probes.sets[name]} for name in ("train", "held_out")}
    assert draws == {"train": {0, 1}, "held_out": {0, 1, 2}}  # four images and two, six pairs
    first = context.losses("held_out", 0.7, first_noise=True)
    assert len(first.adapted) == 2 * 4
