"""What the documents say is there, is there."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import textwrap
from pathlib import Path

import pytest
import yaml

import lorasweep.api
from lorasweep.cli import HYDRA_FLAGS, build_parser

ROOT = Path(__file__).parents[2]
PAGES = [p for p in ROOT.glob("**/*.md") if not {".venv", "outputs", "mlruns"} & set(p.relative_to(ROOT).parts)]
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


def test_the_python_in_the_readme_names_what_there_is() -> None:
    owners = {"ls": lorasweep, "run": lorasweep.api.EndedRun}
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    named = [n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Attribute) and ast.unparse(n.value) in owners]
    assert len(named) > 5
    for node in named:
        assert node.attr in dir(owners[ast.unparse(node.value)]), ast.unparse(node)


def test_the_commands_in_the_readme_parse() -> None:
    blocks = re.findall(r"```sh\n(.*?)```", README, flags=re.S)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    commands = [shlex.split(line)[1:] for line in lines if re.match(r"(\.venv/bin/)?lorasweep ", line)]
    assert len(commands) >= 6
    for words in commands:
        if not set(words) & set(HYDRA_FLAGS):  # those are Hydra's to parse
            build_parser().parse_args(words)
