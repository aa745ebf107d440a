"""A sweep says the same whether a worker trains its trials one by one or three at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from tiny_training import FEW_PICTURES

from lorasweep.cli import main
from lorasweep.core import files

pytestmark = pytest.mark.usefixtures("quick_trials", "training_workers")
RECIPE = [
    "train.max_steps=6",
    "train.rungs=2",
    "dataset.dollhouse.images=8",
    "sample.steps=2",
    "sample.seeds=[0]",
    "sample.weights=[0.7]",
    "launcher.workers=1",
    "tracking=none",
]
ARMS = {
    "low": ["optimizer.lr=1e-5", "adapter.dim=4"],
    "high": ["optimizer.lr=1e-2", "adapter.dim=8"],
    "nan": ["optimizer.lr=1e30", "adapter.dim=4"],
}
SWEEP = "sweep:\n  question: Does a higher learning rate cook more?\n  metric: {name: norms/relative, goal: maximize}\n"
SWEEP += "".join(
    ["  arms:\n", *(f"    {arm}: {{{', '.join(words).replace('=', ': ')}}}\n" for arm, words in ARMS.items())]
)


def left(run: Path) -> tuple[Any, ...]:
    events = [(row["kind"], row["step"]) for row in files.read_jsonl(run / "events.jsonl") if row["kind"] != "system"]
    result = files.read_json(run / "metrics.json") if (run / "metrics.json").exists() else {"metrics": {}}
    weights = load_file(run / "adapter.safetensors") if result["metrics"] else {}
    status = files.read_json(run / "status.json")
    return events, status["status"], status["attempt"], result, weights


def test_the_same_is_found_one_by_one_and_three_at_a_time(
    home: Path, on_tiny_sd: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words, alone = [*RECIPE, *FEW_PICTURES, *on_tiny_sd, "train.batch_size=1", "metrics=[norms]"], []
    for arm in ARMS.values():
        main(["train", "--json", *words, *arm])
        alone.append(left(Path(json.loads(capsys.readouterr().out)["run_folder"])))
    (home / "together.yaml").write_text(SWEEP)
    main(["sweep", str(home / "together.yaml"), "--fresh", *words, "launcher.pack=3"])
    packed = [left(run) for run in sorted((home / "outputs" / "together").glob("0*"))]
    assert [status for _, status, *_ in alone] == ["COMPLETED", "COMPLETED", "DIVERGED"]
    for one, other in zip(alone, packed, strict=True):
        assert one[:3] == other[:3]
        assert one[3].get("verdict") == other[3].get("verdict")
        assert other[3]["metrics"] == pytest.approx(one[3]["metrics"], rel=1e-2, nan_ok=True)
        for name, tensor in one[4].items():
            assert (tensor - other[4][name]).norm() <= 2e-2 * tensor.norm(), name


@pytest.mark.parametrize("words", [["launcher=ssh", "launcher.hosts=[gpu1]"], ["launcher=ray"]])
def test_workers_elsewhere_train_one_trial_at_a_time(
    home: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "quickstart", *words, "launcher.pack=3"]) == 2
    assert "workers on other machines train one trial at a time" in capsys.readouterr().err


def test_the_plan_says_how_many_a_worker_trains_at_a_time_and_why(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "one.yaml").write_text(SWEEP)
    assert main(["plan", str(home / "one.yaml"), *RECIPE, "train.device=cpu", "train.batch_size=1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pack"]["trials"] == 4
    assert main(["plan", str(home / "one.yaml"), *RECIPE, "train.device=cpu", "train.batch_size=32"]) == 0
    assert "a worker trains 1 trial at a time: on a CPU it pays up to 16 images" in capsys.readouterr().out
