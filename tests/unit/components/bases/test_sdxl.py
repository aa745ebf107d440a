"""Stable Diffusion XL on a tiny random one: told, read and asked as diffusers and kohya do."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from oracle import pipeline_of
from tiny_checkpoint import same_tensors
from tiny_sdxl import as_one_file, config_only, write_sdxl_checkpoint

from lorasweep.components.bases import sdxl
from lorasweep.components.bases._families import SDXL
from lorasweep.components.bases._source import Source
from lorasweep.components.bases._unet import StableDiffusionXLBase
from lorasweep.core.errors import ConfigError
from lorasweep.core.records import BaseOptions, Frame

CAPTIONS = ["zkw, red hair", ""]
FRAMES = [
    Frame(original_px=(1001, 1500), crop_px=(0, 256), size_px=(1024, 1024)),
    Frame(original_px=(512, 768), crop_px=(3, 0), size_px=(832, 1216)),
]


def options(path: Path | str | None, **changes: Any) -> BaseOptions:
    known = {"name": "sdxl", "path": path and str(path), "resolution": 32, "bucket_step": 8}
    return BaseOptions(**{**known, **changes})


def load(path: Path, precision: str = "fp32", **changes: Any) -> Any:
    return sdxl.load(options(path, **changes), device="cpu", precision=precision)


@pytest.fixture
def checkpoint(tiny_sdxl: Path, tmp_path: Path) -> Path:
    """The tiny base as one file, with its configs in the folder beside it."""
    return as_one_file(tiny_sdxl, tmp_path / "xl.safetensors", marks=("v_pred", "ztsnr"))


def test_captions_are_read_as_the_pipeline_reads_them(tiny_sdxl: Path) -> None:
    base = load(tiny_sdxl)
    with torch.no_grad():
        found = base.encode_captions(CAPTIONS)
        wanted, _, pooled, _ = pipeline_of(base, "ddim").encode_prompt(
            CAPTIONS, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False
        )
    assert torch.equal(found["embeds"], wanted) and torch.equal(found["pooled"], pooled)
    assert found["embeds"].shape == (2, 77, 80) and found["pooled"].shape == (2, 40)


def test_long_captions_are_pooled_by_their_first_chunk(tiny_sdxl: Path) -> None:
    base = load(tiny_sdxl)
    long = "red hair, " * 60  # 180 tokens
    with torch.no_grad():
        found = base.encode_captions([long, "zkw"])
        ids = base.tokenizers[1](long, add_special_tokens=False).input_ids
        start, end = base.tokenizers[1].bos_token_id, base.tokenizers[1].eos_token_id
        first = base.parts["text_encoder_2"](torch.tensor([[start, *ids[:75], end]])).text_embeds
        alone = base.encode_captions(["zkw"])
    assert found["embeds"].shape == (2, 227, 80)
    assert torch.allclose(found["pooled"], torch.cat([first, alone["pooled"]]), atol=1e-5)


def test_the_unet_is_told_true_sizes_height_first(tiny_sdxl: Path) -> None:
    base = load(tiny_sdxl)
    noisy, t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([10, 900])
    six = torch.tensor([[1500.0, 1001, 256, 0, 1024, 1024], [768, 512, 0, 3, 1216, 832]])
    with torch.no_grad():
        text = base.encode_captions(CAPTIONS)
        told = {"text_embeds": text["pooled"], "time_ids": six}
        wanted = base.unet(noisy, t, encoder_hidden_states=text["embeds"], added_cond_kwargs=told).sample
        found = base.predict(noisy, t, text, FRAMES)
        other = base.predict(noisy, t, text, FRAMES[::-1])
    assert torch.equal(found, wanted) and not torch.allclose(found, other, atol=1e-4)


def test_a_checkpoint_is_what_the_folder_is(tiny_sdxl: Path, checkpoint: Path) -> None:
    folder, file = load(tiny_sdxl), load(checkpoint)
    assert all(same_tensors(file.parts[part], folder.parts[part]) for part in folder.parts)
    assert same_tensors(file.vae, folder.vae)
    with torch.no_grad():
        one, other = (base.encode_captions(CAPTIONS) for base in (folder, file))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert file.path.prediction == "v_prediction" and file.path.zero_terminal_snr  # by its marks
    assert folder.path.prediction == "epsilon" and not folder.path.zero_terminal_snr


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_the_vae_stays_in_fp32(tiny_sdxl: Path, checkpoint: Path, precision: str) -> None:
    for path in (tiny_sdxl, checkpoint):
        base = load(path, precision)
        assert {p.dtype for part in base.parts.values() for p in part.parameters()} == {base.dtype}
        assert {p.dtype for p in base.vae.parameters()} == {torch.float32}
        assert same_tensors(base.vae, load(path).vae)


def test_clip_skip_is_refused_with_the_reason(tiny_sdxl: Path) -> None:
    ((key, said, _),) = sdxl.problems(options(tiny_sdxl, clip_skip=2))
    assert key == "clip_skip" and "last layer but one of both text encoders" in said


def test_a_file_without_marks_that_answers_like_v_is_refused(
    tiny_sdxl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A merge that lost `v_pred` would be trained to answer another question, and the LoRA be useless."""
    folder = Path(shutil.copytree(tiny_sdxl, tmp_path / "configs"))
    file = write_sdxl_checkpoint(folder, tmp_path / "merge.safetensors")
    config_only(folder)
    source = Source(dataclasses.replace(SDXL, shipped=folder))  # as if these were SDXL's own: they say nothing about it

    def load(**changes: Any) -> Any:
        return source.load(options(file, **changes), device="cpu", precision="fp32")

    with pytest.raises(ConfigError, match=r"base.prediction_type.*does not answer with that noise"):
        load()
    assert load(prediction_type="v_prediction").path.prediction == "v_prediction"
    monkeypatch.setattr(StableDiffusionXLBase, "predict", lambda self, noisy, *_: noisy * 0.9)
    assert load().path.prediction == "epsilon"
