"""Bad input, through the command line: exit code 2, every problem in words, no traceback, nothing started."""

from __future__ import annotations

import functools
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import clean_dataset
import pytest

from lorasweep.cli import main

SWEEP = """
sweep:
  question: Which burns later?
  metric: {name: overcook/utility, goal: maximize}
  seeds: [0]
  recipe: {train.max_steps: 4}
  arms:
    usual: {optimizer: adamw}
    other: {optimizer: prodigy}
"""


# A good kohya dataset, to be spoiled.
photos = functools.partial(clean_dataset.photos, concept="2_zkw", count=2, caption="zkw, 1girl")


def with_file(name: str, content: bytes) -> Callable[[Path], list[str]]:
    """A dataset with one spoiled file."""

    def make(folder: Path) -> list[str]:
        root = photos(folder)
        (root / "2_zkw" / name).write_bytes(content)
        return ["plan", f"dataset.path={root}"]

    return make


def truncated(folder: Path) -> list[str]:
    root = photos(folder)
    content = (root / "2_zkw" / "0.png").read_bytes()
    (root / "2_zkw" / "0.png").write_bytes(content[: len(content) // 2])
    return ["plan", f"dataset.path={root}"]


def huge_png() -> bytes:
    body = b"IHDR" + struct.pack(">2I5B", 40_000, 40_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", len(body) - 4)
        + body
        + struct.pack(">I", zlib.crc32(body))
        + b"\x00\x00\x00\x00IDAT5\xaf\x06\x1e"
    )


def empty_folder(folder: Path) -> list[str]:
    (folder / "empty").mkdir()
    return ["plan", f"dataset.path={folder / 'empty'}"]


def folder_without_repeats(folder: Path) -> list[str]:
    (photos(folder) / "2_zkw").rename(folder / "photos" / "zkw")
    return ["plan", f"dataset.path={folder / 'photos'}"]


def typed(*words: str) -> Callable[[Path], list[str]]:
    return lambda folder: list(words)


def sweep(before: str = "", after: str = "", *, overrides: tuple[str, ...] = ()) -> Callable[[Path], list[str]]:
    """The good sweep file with one thing replaced."""

    def make(folder: Path) -> list[str]:
        assert before in SWEEP
        (folder / "mine.yaml").write_text(SWEEP.replace(before, after) if before else after)
        return ["plan", str(folder / "mine.yaml"), *overrides]

    return make


def base_without_index(folder: Path) -> list[str]:
    (folder / "model").mkdir()
    return ["plan", "base=stable_diffusion", f"base.path={folder / 'model'}"]


def pickled_base(folder: Path) -> list[str]:
    (folder / "model.ckpt").write_bytes(b"\x80\x04.")
    return ["plan", "base=stable_diffusion", f"base.path={folder / 'model.ckpt'}"]


def sd_base(*overrides: str) -> Callable[[Path], list[str]]:
    return lambda folder: ["plan", "base=stable_diffusion", f"base.path={folder}", *overrides]


# what is wrong -> (the command that says so, words that must be in the message)
CASES: dict[str, tuple[Callable[[Path], list[str]], list[str]]] = {
    # the images
    "missing folder": (typed("plan", "dataset.path=no/such/folder"), ["dataset.path", "no such folder"]),
    "empty folder": (empty_folder, ["has no images"]),
    "images one level too deep": (folder_without_repeats, ["rename 'zkw' to '10_zkw'"]),
    "corrupt image": (with_file("a.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 99), ["2_zkw/a.png"]),
    "truncated image": (truncated, ["2_zkw/0.png", "truncated"]),
    "empty image file": (with_file("a.png", b""), ["2_zkw/a.png", "is empty"]),
    "text file named .png": (with_file("a.png", b"just words"), ["2_zkw/a.png", "is not an image"]),
    "image too large": (with_file("a.png", huge_png()), ["2_zkw/a.png", "at most 100 million pixels"]),
    "caption in another encoding": (with_file("0.txt", "ça".encode("latin-1")), ["2_zkw/0.txt", "UTF-8"]),
    "unknown subject": (typed("plan", "dataset.dollhouse.subject=zkv"), ["must be one of zkw"]),
    "holdout of 0.9": (typed("plan", "dataset.holdout=0.9"), ["dataset.holdout", "[0, 0.5]", "0.9"]),
    "unknown prompt tier": (typed("plan", "dataset.prompts.clas=[a]"), ["dataset.prompts.clas"]),
    # the recipe
    "unknown key": (typed("plan", "nonsense=1"), ["nonsense", "unknown key"]),
    "unknown nested key": (
        typed("plan", "adapter.dims=4"),
        ["adapter.dims", "did you mean `dim`?", "lora.yaml"],
    ),
    "wrong type": (typed("plan", "train.epochs=many"), ["train.epochs", "whole number", "'many'"]),
    "wrong choice of words": (typed("plan", "train.precision=fp8"), ["train.precision", "fp32, fp16, bf16"]),
    "unknown group choice": (typed("plan", "adapter=lorra"), ["adapter=lorra", "did you mean `lora`?"]),
    "unknown component": (
        typed("plan", "scheduler.name=cosin"),
        ["scheduler.name", "did you mean `cosine`?"],
    ),
    "unknown metric": (typed("plan", "metrics=[burn,luck]"), ["metrics=luck", "choices:"]),
    "zero steps": (typed("plan", "train.max_steps=0"), ["train.max_steps", "must be >= 1, got 0"]),
    "no budget at all": (typed("plan", "train.epochs=null"), ["max_steps or epochs"]),
    "negative learning rate": (typed("plan", "optimizer.lr=-1"), ["optimizer.lr", "-1"]),
    "learning rate not a number": (typed("plan", "optimizer.lr=nan"), ["optimizer.lr", "finite"]),
    "zero dim": (typed("plan", "adapter.dim=0"), ["adapter.dim", "must be >= 1, got 0"]),
    "zero batch size": (typed("plan", "train.batch_size=0"), ["train.batch_size", "must be >= 1"]),
    "zero rungs": (typed("plan", "train.rungs=0"), ["train.rungs", "must be >= 1"]),
    "zero LoRA weight": (typed("plan", "sample.weight=0"), ["sample.weight", "(0, 2]"]),
    "no seeds to sample": (typed("plan", "sample.seeds=[]"), ["sample.seeds", "at least one seed"]),
    "zero threads": (typed("plan", "launcher.threads=0"), ["launcher.threads"]),
    "no seed": (typed("plan", "seed=null"), ["seed", "whole number"]),
    "sample size off the grid": (typed("plan", "sample.width=70"), ["sample.width", "multiple"]),
    # buckets
    "bucket below the step": (
        sd_base("buckets.sizes=[[32,512]]"),
        ["[32, 512]", "smaller than base.bucket_step"],
    ),
    "bucket off the step": (sd_base("buckets.sizes=[[500,512]]"), ["[500, 512]", "multiples of"]),
    "no bucket at all": (typed("plan", "buckets.sizes=[]"), ["buckets.sizes", "at least one"]),
    # the base
    "base not given": (typed("plan", "base=stable_diffusion"), ["base.path", "must be given"]),
    "base path missing": (
        typed("plan", "base=stable_diffusion", "base.path=no/base"),
        ["base.path", "no/base"],
    ),
    "base not a diffusers folder": (base_without_index, ["base.path", "model_index.json"]),
    "pickled base": (pickled_base, ["base.path", "pickle"]),
    # more than data
    "_target_ in an override": (
        typed("plan", "+adapter._target_=os.system"),
        ["`_target_`", "data, not code"],
    ),
    "_target_ in a sweep file": (sweep("optimizer: adamw", "adapter._target_: os.system"), ["`_target_`"]),
    "_target_ deep in a sweep file": (
        sweep("{optimizer: adamw}", "{adapter: {_target_: x}}"),
        ["`_target_`"],
    ),
    "resolver in an override": (typed("plan", "captions.trigger=${oc.env:HOME}"), ["captions.trigger", "${"]),
    "resolver in a sweep file": (sweep("adamw", "'${oc.env:HOME}'"), ["${"]),
    "YAML tag in a sweep file": (
        sweep("adamw", "!!python/object/apply:os.system [ls]"),
        ["tags are refused"],
    ),
    "malformed override": (
        typed("plan", "seed=1", "captions.trigger=a (b"),
        ["captions.trigger=a (b", "quote"],
    ),
    "override without a value": (typed("plan", "seed=1", "optimizer"), ["optimizer", "KEY=VALUE"]),
    "several values": (typed("train", "optimizer=adamw,prodigy"), ["several values", "sweep file"]),
    "Hydra's own settings": (typed("plan", "hydra.searchpath=[x]"), ["Hydra's own settings"]),
    # the sweep file
    "unknown sweep": (typed("plan", "quikstart"), ["did you mean `quickstart`?"]),
    "sweep file missing": (typed("plan", "no/such.yaml"), ["no/such.yaml", "no such sweep file"]),
    "sweep file empty": (sweep("", ""), ["is empty"]),
    "sweep file not YAML": (sweep("", "sweep: ["), ["is not YAML"]),
    "sweep without arms": (sweep(SWEEP[SWEEP.index("  arms:") :], "  arms: {}\n"), ["at least one arm"]),
    "arms given twice": (sweep("    other:", "    usual:"), ["the key `usual` is given twice"]),
    "unknown arm setting": (
        sweep("optimizer: prodigy", "optimiser: prodigy"),
        ["arm `other`", "`optimizer`"],
    ),
    "goal of no direction": (sweep("maximize", "upwards"), ["sweep.metric.goal", "maximize, minimize"]),
    "metric nobody measures": (sweep("overcook/utility", "luck/score"), ["sweep.metric.name", "families"]),
    "sweep without seeds": (sweep("seeds: [0]", "seeds: []"), ["sweep.seeds", "at least one seed"]),
    "seed given twice": (sweep("seeds: [0]", "seeds: [0, 0]"), ["sweep.seeds", "must not repeat"]),
    "wrong override of a sweep": (sweep("", SWEEP, overrides=("train.batch_size=0",)), ["train.batch_size"]),
}


def assert_refused(code: int, out: str, err: str, words: list[str], home: Path) -> None:
    assert code == 2, (code, out, err)
    assert out == ""
    assert "Traceback" not in err and "problem" in err.splitlines()[0]
    for word in words:
        assert word in err, (word, err)
    assert not (home / "outputs").exists() and not (home / "mlruns").exists()


@pytest.mark.parametrize("wrong", CASES)
def test_bad_input_is_explained(
    wrong: str, home: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    make, words = CASES[wrong]
    command = make(tmp_path_factory.mktemp("input"))

    code = main(command)

    assert_refused(code, *capsys.readouterr(), words, home)


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_training_and_sweeping_refuse_it_just_the_same(
    command: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text(SWEEP)
    words = {"train": ["train"], "sweep": ["sweep", str(tmp_path / "mine.yaml")]}[command]

    code = main([*words, "adapter.dim=0", "optimizer.lrr=1", "dataset.path=nowhere"])

    assert_refused(code, *capsys.readouterr(), ["adapter.dim", "did you mean `lr`?", "dataset.path"], home)


def test_all_problems_are_listed_at_once(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ["adapter.dim=0", "train.epochs=x", "scheduler=cosin", "nonsense=1", "sample.weight=9", "seed"]

    code = main(["train", "seed=1", *wrong])

    err = capsys.readouterr().err
    assert code == 2 and err.startswith("ConfigError: 6 problems")


def test_several_spoiled_images_are_listed_at_once(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = photos(home, count=6)
    for number in (1, 3, 4):
        (root / "2_zkw" / f"{number}.png").write_bytes(b"no image")

    code = main(["train", f"dataset.path={root}"])

    err = capsys.readouterr().err
    assert code == 2
    assert [f"2_zkw/{number}.png" in err for number in range(6)] == [False, True, False, True, True, False]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train", "adapter.dim=0", "adapter.dims=3"], "2 problems"),
        (["sweep", "quikstart"], "did you mean `quickstart`?"),
        (["plan", "dataset.path=nowhere", "train.rungs=0"], "2 problems"),
    ],
)
def test_in_a_process_of_its_own(words: list[str], expected: str, home: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "lorasweep", *words],
        capture_output=True,
        text=True,
        cwd=home,
        env={**os.environ, "LORASWEEP_HOME": str(home / "home")},
    )

    assert_refused(result.returncode, result.stdout, result.stderr, [expected], home / "home")


@pytest.mark.parametrize("command", ["train", "sweep"])
@pytest.mark.parametrize("place", ["taken", "taken/cache", "taken/cache/base_samples"])
def test_a_folder_that_cannot_be_written_is_told_before_any_work(
    command: str,
    place: str,
    tmp_path: Path,
    tiny_sd: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Permission bits do not bind root, but a file in the folder's place does.
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_text("")
    monkeypatch.setenv("LORASWEEP_HOME", str(tmp_path / "taken"))
    (tmp_path / "mine.yaml").write_text(SWEEP)
    words = {"train": ["train"], "sweep": ["sweep", str(tmp_path / "mine.yaml")]}[command]
    root = photos(tmp_path, count=6)

    for path in (f"dataset.path={root}", "dataset.path=null"):
        code = main([*words, path, f"base.path={tiny_sd}"])

        captured = capsys.readouterr()
        assert code == 2, captured
        assert "cannot be written here" in captured.err and "LORASWEEP_HOME" in captured.err
        assert "Traceback" not in captured.err
    assert (tmp_path / place).read_text() == ""


@pytest.mark.parametrize(
    ("knob", "value", "rule"),
    [
        ("subject", "zkv", "must be one of zkw"),
        ("images", "2", "at least one for each of 3 outfits, got 2"),
    ],
)
def test_a_wardrobe_that_cannot_be_drawn_is_refused_alike_wherever_it_is_named(
    knob: str, value: str, rule: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {"outfits": "3", knob: value}
    keys = [f"dataset.dollhouse.{name}={given}" for name, given in asked.items()]
    options = [f"--{name}={given}" for name, given in asked.items()]
    told = []
    for words, place in (
        (["plan", *keys], "dataset.dollhouse."),
        (["dollhouse", "dataset", "--out=x", *options], "--"),
    ):
        assert main(words) == 2
        told.append(capsys.readouterr().err)
        assert f"{place}{knob}" in told[-1] and rule in told[-1]
    assert not (home / "x").exists()
