"""What the documents say is there, is there."""

from __future__ import annotations

import re
import shlex
import subprocess
import textwrap
from pathlib import Path

import pytest
import yaml

from lorasweep import config
from lorasweep.cli import COMMANDS, HYDRA_FLAGS, _parse
from lorasweep.config.places import groups
from lorasweep.core.errors import ConfigError

ROOT = Path(__file__).parents[2]
PLACES = [place for place in ROOT.iterdir() if place.name not in (".git", ".venv", "outputs", "mlruns")]  # not walked
PAGES = [page for place in PLACES for page in ([place] if place.suffix == ".md" else place.rglob("*.md"))]
TOLD = [
    *(page for page in PAGES if page.name != "CHANGELOG.md" and page.parent.name != "decisions"),
    *ROOT.glob("docs/*.ipynb"),
    *ROOT.glob("conf/**/*.yaml"),
    *ROOT.glob("sweeps/*.yaml"),
]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def links(page: Path) -> list[str]:
    found = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    return [link for link in found if "://" not in link]


def tree_paths() -> list[str]:
    block = README.split("## The tree")[1].split("```")[1]
    paths: list[str] = []
    parents: list[str] = []
    for line in block.splitlines()[1:]:
        if not line.strip():
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        name = line.split()[0]
        parents[depth:] = [name]
        paths.append("".join(parents))
    return paths


def test_there_are_links() -> None:
    assert sum(len(links(page)) for page in PAGES) >= 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        assert (page.parent / link).exists(), link


def test_the_tree_in_the_readme_is_the_tree() -> None:
    named = tree_paths()
    assert len(named) >= 20
    for path in named:
        assert (ROOT / path).exists(), path
    rooms = {f"lorasweep/{p.name}{'/' if p.is_dir() else ''}" for p in (ROOT / "lorasweep").iterdir()}
    rooms -= {"lorasweep/__pycache__/", "lorasweep/_data/"}
    rooms -= {"lorasweep/__init__.py", "lorasweep/__main__.py", "lorasweep/mlflow_model.py", "lorasweep/py.typed"}
    assert rooms <= set(named), rooms - set(named)


def test_the_files_to_copy_for_clusters_are_whole() -> None:
    page = (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8")
    blocks = [textwrap.dedent(block) for block in re.findall(r"\n\n((?:    .*\n)+)", page)]
    tasks = [yaml.safe_load(block) for block in blocks if re.match(r"\w+: ", block)]
    assert [next(iter(task)) for task in tasks] == ["apiVersion", "workdir"]
    scripts = [tasks[1]["run"], *(block for block in blocks if block.startswith(("#!/bin/bash", "export ")))]
    assert len(scripts) == 3
    for script in scripts:
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def commands(file: Path) -> list[list[str]]:
    """The command lines of ours in a file's blocks of code and between backticks, without comments, as words."""
    text = file.read_text(encoding="utf-8").replace("\\\n", " ").replace("\\n", "\n")  # a notebook's lines too
    ours = rf"(?:python -m )?lorasweep (?:-|(?:{'|'.join(COMMANDS)})\b)"
    lines = re.findall(rf"^ *(?:\$ |# )?({ours}.*)", text, flags=re.M) + re.findall(rf"`({ours}[^`]*)`", text)
    found = (shlex.split(re.sub(r"\s#.*", "", line)) for line in lines)
    return [words[words.index("lorasweep") + 1 :] for words in found]


def test_there_are_commands() -> None:
    assert len([words for file in TOLD for words in commands(file)]) > 120


@pytest.mark.parametrize("file", list(filter(commands, TOLD)), ids=lambda file: str(file.relative_to(ROOT)))
def test_commands_that_are_told_parse_and_name_what_a_recipe_has(file: Path) -> None:
    for words in commands(file):
        line = " ".join(words)
        if len(words) == 1 or "KEY=VALUE" in words or "..." in line or "$" in line:
            continue  # only a name, or to be filled in
        if not set(words) & set(HYDRA_FLAGS):  # those are Hydra's to parse
            _parse(words)
        keys = [word for word in words if "=" in word and word.split("=")[0].split(".")[0] in (*groups(), "seed")]
        axes = [word for word in keys if config.has_axes([word])]
        if axes:
            config.load_sweep(axes[0], [*axes[1:], *(word for word in words if word.startswith("sweep."))])
        try:
            config.compose_recipe([word for word in keys if word not in axes and file.name != "plugins.md"])
        except ConfigError as error:  # their files need not be there
            missing = re.compile("no such (folder|file)|must exist")
            assert all(missing.match(each.message) for each in error.problems), (line, error)
