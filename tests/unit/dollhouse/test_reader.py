"""The reader: it reads clean renders at every shipped size, tells subjects apart, reports ruined ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lorasweep.dollhouse.reader.labels import HEADS, class_indices
from lorasweep.dollhouse.reader.reader import Reader
from lorasweep.dollhouse.world import SIZES_PX, SUBJECTS, Spec, sample_spec
from tools.pretrain_dollhouse.batches import to_tensor
from tools.pretrain_dollhouse.corruption import gross, slight
from tools.pretrain_dollhouse.quality import head_accuracy


@pytest.fixture(scope="module")
def reader() -> Reader:
    torch.set_num_threads(1)
    return Reader.load()


def _specs(count: int, **options: object) -> list[Spec]:
    rng = np.random.default_rng(123)
    return [sample_spec(rng, split="heldout", **options) for _ in range(count)]  # type: ignore[arg-type]


@pytest.mark.parametrize("size", SIZES_PX)
def test_renders_are_read_well(reader: Reader, size: tuple[int, int]) -> None:
    specs = _specs(100, mark_rate=0.5)
    accuracy = head_accuracy(reader.read(to_tensor(specs, *size)), specs)
    assert min(accuracy.values()) >= 0.93, accuracy


def test_probabilities_sum_to_one(reader: Reader) -> None:
    reading = reader.read(to_tensor(_specs(3), 64, 64))
    assert set(reading.probabilities) == set(HEADS)
    for probability_BK in reading.probabilities.values():
        assert torch.allclose(probability_BK.sum(dim=1), torch.ones(3), atol=1e-5)


@pytest.mark.parametrize("trigger", list(SUBJECTS))
def test_identity_tells_subjects_apart(reader: Reader, trigger: str) -> None:
    subject = SUBJECTS[trigger]
    rng = np.random.default_rng(5)
    same = [sample_spec(rng, fixed=subject.fixed) for _ in range(24)]
    unmarked = [sample_spec(rng, fixed=subject.traits) for _ in range(24)]
    others = [sample_spec(rng, mark_rate=0.5) for _ in range(24)]
    scores = [reader.read(to_tensor(specs, 64, 64)).identity(subject) for specs in (same, unmarked, others)]
    assert all(((0 <= score) & (score <= 1)).all() for score in scores)
    assert scores[0].mean() > 0.8
    assert scores[1].mean() < 0.1 and scores[2].mean() < 0.1


def test_tag_accuracy_counts_matches(reader: Reader) -> None:
    specs = _specs(16)
    reading = reader.read(to_tensor(specs, 64, 64))
    assert reading.tag_accuracy(specs)["background"] == 1.0
    assert reading.tag_accuracy(specs[::-1])["background"] < 1.0
    with pytest.raises(ValueError, match="one spec a picture"):
        reading.matches(specs[:3])


def test_nuisances_are_read(reader: Reader) -> None:
    specs = _specs(64)
    read_BN = reader.read(to_tensor(specs, 64, 64)).nuisances_BN
    for column, name in enumerate(("x", "y", "scale", "light")):
        truth_B = torch.tensor([getattr(spec, name) for spec in specs])
        assert torch.corrcoef(torch.stack([read_BN[:, column], truth_B]))[0, 1] > 0.8, name


def test_ruined_pictures_are_reported(reader: Reader) -> None:
    image_BCHW = to_tensor(_specs(40), 64, 64)
    noise = torch.Generator().manual_seed(0)
    assert reader.read(image_BCHW).corrupt_B.mean() < 0.2
    assert reader.read(slight(image_BCHW, noise)).corrupt_B.mean() < 0.3
    ruined = torch.cat([gross(image_BCHW, noise) for _ in range(6)])
    assert reader.read(ruined).corrupt_B.mean() > 0.7


def test_class_indices_follow_heads() -> None:
    spec = _specs(1)[0]
    found = class_indices([spec])
    assert {name: HEADS[name][index[0]] for name, index in found.items()} == {
        name: getattr(spec, name) for name in HEADS
    }


def test_bad_input_and_missing_weights_are_refused(reader: Reader, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
        reader.read(torch.zeros(3, 64, 64))
    with pytest.raises(FileNotFoundError, match="pretrain"):
        Reader.load(folder=tmp_path)
