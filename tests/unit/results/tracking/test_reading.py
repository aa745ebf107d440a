"""What is read of a sweep folder: what was declared, and what a search came to hold since."""

from __future__ import annotations

from pathlib import Path

import yaml

from lorasweep.core.files import append_jsonl, write_text
from lorasweep.results.tracking.reading import read_sweep

DECLARED = {"name": "search", "question": "", "metric": "overcook/utility", "goal": "maximize", "worst": 0.0}


def test_points_and_repeats_are_read_with_what_was_declared(tmp_path: Path) -> None:
    manifest = {
        **DECLARED,
        "arms": [{"name": "known", "note": "usual", "overrides": [], "plan": "", "recipe": {"seed": 0}}],
        "trials": [{"number": 0, "arm": "known", "seed": 0}],
        "total": 9,
    }
    write_text(tmp_path / "sweep.yaml", yaml.safe_dump(manifest))
    assert read_sweep(tmp_path).declared == 9
    point = {"number": 1, "arm": "p000", "seeds": [0, 1], "overrides": ["adapter.dim=8"], "params": {"x": 1}}
    append_jsonl(tmp_path / "asked.jsonl", point)
    append_jsonl(tmp_path / "asked.jsonl", {"number": 3, "arm": "known", "seeds": [5], "params": None})

    sweep = read_sweep(tmp_path)

    assert sweep.arm("p000")["overrides"] == ["adapter.dim=8"]
    assert sweep.arm("known")["note"] == "usual"
    assert [(each["number"], each["arm"], each["seed"]) for each in sweep.manifest["trials"]] == [
        (0, "known", 0),
        (1, "p000", 0),
        (2, "p000", 1),
        (3, "known", 5),
    ]
    assert sweep.declared == 9


def test_a_sweep_of_arms_declares_as_many_as_it_lists(tmp_path: Path) -> None:
    manifest = {**DECLARED, "arms": [], "trials": [{"number": 0, "arm": "a", "seed": 0}], "total": 1}
    write_text(tmp_path / "sweep.yaml", yaml.safe_dump(manifest))

    assert read_sweep(tmp_path).declared == 1
