"""`plan --png`: what is drawn, where cycles begin, and that a picture comes out. No torch."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from lorasweep import api
from lorasweep.cli import main
from lorasweep.cli.plan_view.picture import draw, panels, turns
from lorasweep.config import load_sweep
from lorasweep.core.records import Recipe

MakeRecipe = Callable[..., Recipe]

SWEEP = """
sweep:
  question: shapes?
  metric: {name: overcook/utility}
  recipe: {train.max_steps: 120}
  arms:
    first: {scheduler: cosine_with_restarts, scheduler.num_cycles: 4}
    same_rates: {scheduler: cosine_with_restarts, scheduler.num_cycles: 4, buckets: four}
    other: {scheduler: linear}
"""


def test_arms_with_the_same_rates_share_a_panel(home: Path, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(SWEEP)
    found = panels(api.plan(load_sweep(str(tmp_path / "s.yaml"))))
    assert [panel.names for panel in found] == [("first", "same_rates"), ("other",)]
    assert found[0].cycles == (30, 60, 90) and found[1].cycles == ()
    assert all(len(curve.shape) == panel.steps == 120 for panel in found for curve in panel.parts)


@pytest.mark.parametrize(
    ("scheduler", "cycles"),
    [
        ("constant", ()),
        ("cosine", ()),
        ("rex", ()),
        ("annealed_cosine_warmup_restarts", (41, 81)),  # one step after the floor, where the warm-up starts
        ("cosine_with_soft_restarts", (25, 73)),  # half of a swing of 48 steps is its floor
    ],
)
def test_cycles_begin_where_the_rate_turns(scheduler: str, cycles: tuple[int, ...], recipe_of: MakeRecipe) -> None:
    (panel,) = panels(api.plan(recipe_of("train.max_steps=120", f"scheduler={scheduler}")))
    assert panel.cycles == cycles


def test_turns_by_hand() -> None:
    assert turns([1, 1, 1]) == turns([0, 1, 2]) == turns([2, 1, 0]) == ()
    assert turns([0, 2, 1, 0, 0, 2, 1, 2]) == (5, 7)


def test_a_readable_picture_comes_out(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s.yaml").write_text(SWEEP)
    assert main(["plan", str(tmp_path / "s.yaml"), "--png", str(tmp_path / "new" / "rates.png")]) == 0
    picture = Image.open(tmp_path / "new" / "rates.png").convert("RGB")
    assert picture.width > 1000 and picture.height > 300
    colors = {color for _, color in picture.getcolors(1 << 20) or []}
    assert (31, 95, 168) in colors  # the UNet's line
    alone = tmp_path / "one.png"
    assert draw(api.plan(load_sweep(str(tmp_path / "s.yaml"))), alone) == 2
    assert main(["plan", "train.max_steps=5", "--png", "/proc/nowhere/x.png"]) == 2
    assert "choose another place with --png" in capsys.readouterr().err


def test_drawing_needs_no_torch(home: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from lorasweep.cli import main; "
        f"code = main(['plan', 'train.max_steps=9', '--png', {str(tmp_path / 'x.png')!r}]); "
        "sys.exit(code or ('torch' in sys.modules and 9))"
    )
    environment = {**os.environ, "LORASWEEP_HOME": str(home)}
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environment)
    assert (tmp_path / "x.png").stat().st_size > 5000
