"""The loss counts where a mask is white: numbers against the reference's formula, and no gradient from behind it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_training import train

from lorasweep.core import files
from lorasweep.core.records import Bucket, DatasetOptions, Mask, NoiseOptions, PlannedImage
from lorasweep.trial.cache import LatentCache, Store
from lorasweep.trial.train import loop, loss
from lorasweep.trial.train.slot import Slot

SIZE = (4, 6)


def kohyas(error_BCHW: torch.Tensor, mask_BHW: torch.Tensor) -> torch.Tensor:
    """As sd-scripts' apply_masked_loss has it, for masks of 0 to 1."""
    return error_BCHW * torch.nn.functional.interpolate(mask_BHW[:, None], size=error_BCHW.shape[2:], mode="area")


def a_mask(folder: Path, pixels_HW: np.ndarray) -> Mask:
    path = folder / "mask.png"
    Image.fromarray(pixels_HW).save(path)
    return Mask(file=str(path), sha256=files.sha256(path), channel="gray", share=0.5)


def an_image(mask: Mask | None, width_px: int = 48, height_px: int = 32) -> PlannedImage:
    return PlannedImage(
        file="x.png",
        sha256="",
        concept="",
        caption="zkw",
        split="train",
        repeats=1,
        width_px=width_px,
        height_px=height_px,
        bucket=Bucket(width_px=width_px, height_px=height_px),
        resize_px=(width_px, height_px),
        crop_px=(0, 0),
        mask=mask,
    )


def test_it_is_kohyas_loss(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    pixels_HW = np.random.default_rng(0).integers(0, 256, (32, 48), dtype=np.uint8)
    latents = LatentCache(SimpleNamespace(device=torch.device("cpu")), Store(tmp_path))  # type: ignore[arg-type]
    images = [an_image(a_mask(tmp_path, pixels_HW)), an_image(None)]
    mask_B1HW = torch.stack([latents.mask(image, SIZE) for image in images])
    answer, target = (torch.randn(2, 4, *SIZE, generator=generator) for _ in range(2))
    asked = loss.NoisyBatch(noisy_BCHW=answer, target_BCHW=target, t_B=torch.tensor([1, 2]))
    found = loss.weighted_loss(
        answer,
        asked,
        None,
        options=NoiseOptions(),
        weights=[0.5, 2.0],
        mask_B1HW=mask_B1HW,  # type: ignore[arg-type]
    )
    mask_BHW = torch.stack([torch.from_numpy(pixels_HW / 255).float(), torch.ones(32, 48)])
    expected_B = kohyas((answer - target) ** 2, mask_BHW).mean((1, 2, 3)) * torch.tensor([0.5, 2.0])
    torch.testing.assert_close(found, expected_B.mean())


def masked(slot: Slot, mask: Mask | None) -> Slot:
    slot._images = tuple(dataclasses.replace(image, mask=mask) for image in slot._images)
    return slot


@pytest.fixture
def half(new_slot: Any, tmp_path: Path) -> Mask:
    (image, *_) = new_slot()._images
    pixels_HW = np.zeros((image.height_px, image.width_px), dtype=np.uint8)
    pixels_HW[:, : image.width_px // 2] = 255
    return a_mask(tmp_path, pixels_HW)


def test_what_is_behind_a_mask_pulls_at_nothing(
    new_slot: Any, base: Any, half: Mask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another right answer on the masked half alone leaves every weight as it is."""
    make = loss.make_noisy_batch

    def elsewhere(*args: Any, **kwargs: Any) -> loss.NoisyBatch:
        made = make(*args, **kwargs)
        target_BCHW = made.target_BCHW.clone()
        target_BCHW[..., target_BCHW.shape[3] // 2 :] += 5
        return dataclasses.replace(made, target_BCHW=target_BCHW)

    def ends(*, other: bool, mask: Mask | None) -> list[torch.Tensor]:
        slot = new_slot() if mask is None else masked(new_slot(), mask)
        with monkeypatch.context() as patched:
            if other:
                patched.setattr(loss, "make_noisy_batch", elsewhere)
            loop.advance([slot], base, steps=2, on_step=lambda slot, metrics: None)
        return [parameter.detach().clone() for parameter in slot.parameters()]

    def differ(mask: Mask | None) -> bool:
        return any(
            not torch.equal(here, there)
            for here, there in zip(ends(other=False, mask=mask), ends(other=True, mask=mask), strict=True)
        )

    assert differ(None)
    assert not differ(half)


def test_what_is_behind_a_mask_counts_as_it_is_told_to(new_slot: Any, base: Any, half: Mask) -> None:
    """The loss is linear in `unmasked_weight`, from the mask's own at 0 to that of no mask at 1."""

    def told(least: float, mask: Mask | None = half) -> float:
        slot = masked(new_slot(dataset=DatasetOptions(unmasked_weight=least)), mask)
        (row,) = train(slot, base, 1)
        slot.close()
        return row["train/loss"]

    whole = told(0.0, None)
    assert told(0.0) < 0.9 * whole
    assert told(0.25) == pytest.approx(0.25 * whole + 0.75 * told(0.0), rel=1e-5)


def test_masked_and_unmasked_share_a_step(
    new_slot: Any, base: Any, half: Mask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each ends with the weights that it reaches alone, in float64."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    base.unet.double()
    base.dtype = torch.float64

    def pair() -> list[Slot]:
        slots = [new_slot(), masked(new_slot(noise=NoiseOptions(offset=0.1)), half)]
        for parameter in (each for slot in slots for each in slot.parameters()):
            parameter.data = parameter.data.double()
        return slots

    together, alone = pair(), pair()
    groups: list[int] = []
    step = loop._step

    def counted(group: Any, base: Any) -> Any:
        groups.append(len(group))
        return step(group, base)

    monkeypatch.setattr(loop, "_step", counted)
    loop.advance(together, base, steps=2, on_step=lambda slot, metrics: None)
    assert groups == [2, 2]
    for slot in alone:
        loop.advance([slot], base, steps=2, on_step=lambda slot, metrics: None)
    for one, other in zip(together, alone, strict=True):
        for here, there in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(here, there, rtol=0, atol=1e-12)
