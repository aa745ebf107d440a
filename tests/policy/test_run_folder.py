"""The run folder has one owner: no other module spells the names of its files."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import lorasweep
from lorasweep.core import run_folder

ROOT = Path(lorasweep.__file__).parent
OWNER = "core/run_folder.py"
NAMES = {value for key, value in vars(run_folder).items() if key.endswith("_FILE")} | {run_folder.CHECKPOINTS}
# conf/recipe.yaml, the map of the recipe, is no file of a run.
OTHERS = {(f"config/{name}.py", run_folder.RECIPE_FILE) for name in ("override", "places", "tree")}


def spelled(file: str, source: str) -> Iterator[tuple[str, str]]:
    """Texts that are a name, or a path that ends in one; not sentences that mention one."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value.rpartition("/")[2]
            if text in NAMES or re.fullmatch(r"step_\S*", text):
                yield file, text


def test_the_names_of_its_files_are_written_once() -> None:
    files = {path.relative_to(ROOT).as_posix(): path for path in ROOT.rglob("*.py")}
    found = {each for file, path in files.items() for each in spelled(file, path.read_text(encoding="utf-8"))}
    assert {text for file, text in found if file == OWNER} >= NAMES
    assert {each for each in found if each[0] != OWNER} - OTHERS == set()


def test_a_name_that_is_spelled_elsewhere_is_found() -> None:
    planted = 'x = folder / "metrics.json"\nindex = f"samples/{name}/index.json"\nsay("it lacks a plan.json")\n'
    assert list(spelled("a.py", planted)) == [("a.py", "metrics.json"), ("a.py", "index.json")]
