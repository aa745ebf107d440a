"""The house rules as tests: who may import whom, which library has which door, what never loads torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import lorasweep

ROOT = Path(lorasweep.__file__).parent

# Lowest first, as in the README's tree; a module imports from its own room and from lower ones.
ROOMS = (
    *("core", "dollhouse", "data", "components", "plan", "trial", "config"),
    *("sweep", "results", "api", "cli", "testing", "__main__"),
)
# What a folder of a room may import from the same room. "" stands for the room's own files.
WITHIN = {
    "components": {
        "adapters": set(),
        "bases": set(),
        "buckets": set(),
        "metrics": set(),
        "optimizers": set(),
        "regularizers": set(),
        "schedulers": set(),
        "taggers": set(),
    },
    "trial": {
        "train": {""},
        "judge": {""},
    },
    "results": {
        "export": {""},
        "rate": {"", "report"},  # shows the pictures that a report finds, in a page like its
        "report": {""},
        "tracking": {""},
    },
}
# config and trial know nothing of each other.
APART = {("config", "trial")}
ALONE = {"__init__", "mlflow_model"}  # the front door, and the name that old MLflow models know

DOORS = {
    "hydra": {"config"},
    "omegaconf": {"config"},
    "optuna": {"sweep"},
    "mlflow": {"results/tracking"},
    "transformers": {"components/bases", "components/taggers", "dollhouse", "trial/judge"},
    "onnxruntime": {"components/taggers"},
    "tokenizers": {"components/bases"},
    "diffusers": {"components/bases", "components/adapters", "dollhouse"},
    "peft": {"components/adapters", "trial"},
    "prodigyopt": {"components/optimizers"},
    "pytorch_optimizer": {"components/optimizers"},
    "bitsandbytes": {"components/bases", "components/optimizers"},
    "matplotlib": {"cli/plan_view"},
    "jinja2": {"results/report"},
    "ray": {"sweep/launchers/_ray_"},  # the bridge and its actor; every other process goes without
}

# What a file or folder of cli/ imports beside the front door and core/: the records that it prints, with their tables,
# and what has no use from Python. docs/decisions/2026-11-30-commands-call-the-api.md tells of each.
BESIDE_THE_DOOR = {
    "cli/__init__.py": {"config.hydra_app", "config.suggest", "results.tracking.address"},
    "cli/cook_commands.py": {
        *("config", "plan.calibration", "plan.symptoms", "results.handles", "sweep.ranking"),
    },
    "cli/dataset_commands.py": {"plan.audit"},
    "cli/import_commands.py": {"config.importing.finish"},
    "cli/plan_view/": {
        *("config", "plan.learning_rate", "results.handles", "results.report.words", "sweep.comparable"),
    },
    "cli/show_commands.py": {
        *("results.export.forms", "results.ratings", "results.runs", "results.tracking.address", "results.tracking.ui"),
        "sweep.ranking",
    },
}


@dataclass(frozen=True)
class Import:
    """One name that a file of the package imports, anywhere in it."""

    file: str  # relative to the package
    name: str  # dotted

    @property
    def place(self) -> tuple[str, str]:
        """Room and folder in it of the file that imports."""
        return _place(Path(self.file).with_suffix("").parts)

    @property
    def target(self) -> tuple[str, str] | None:
        """Room and folder in it of what is imported; None for other packages and for the package itself."""
        package, *parts = self.name.split(".")
        if package != "lorasweep" or not parts or parts[0].startswith("__"):
            return None
        return _place(parts if parts[0] in ROOMS else ["api"])  # `from lorasweep import run_trial` is the front door

    @property
    def library(self) -> str:
        return self.name.split(".")[0]


def _place(parts: Sequence[str]) -> tuple[str, str]:
    room = parts[0]
    folder = parts[1] if len(parts) > 1 and (ROOT / room / parts[1]).is_dir() else ""
    return room, folder


def imports_of(file: str, source: str) -> Iterator[Import]:
    """Imports anywhere in a file; by a name in a text, as `import_module` takes it, too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (Import(file, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            yield from (Import(file, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "lorasweep":
            yield Import(file, f"lorasweep.{node.attr}")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _module_of(node.value):
            yield Import(file, node.value)


def _module_of(name: str) -> str:
    """The file of a module, or of what holds it, by its dotted name, relative to the package; empty for no module."""
    package, *parts = name.split(".")
    if package != "lorasweep" or not parts or not all(part.isidentifier() for part in parts):
        return ""
    place = ROOT.joinpath(*parts)
    found = (file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file())
    return next((file.relative_to(ROOT).as_posix() for file in found), "")


def circle(found: Iterable[Import]) -> list[str]:
    """Files that import each other in a circle, lazily or for their types too; empty when there are none."""
    below: dict[str, set[str]] = {each.file: set() for each in found}
    for each in found:
        below[each.file] |= {_module_of(each.name) or _module_of(each.name.rpartition(".")[0])} - {each.file, ""}
    try:
        TopologicalSorter(below).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def _may(place: tuple[str, str], target: tuple[str, str]) -> bool:
    (room, folder), (other, inner) = place, target
    if room != other:
        return ROOMS.index(other) < ROOMS.index(room) and (room, other) not in APART
    return room not in WITHIN or inner in WITHIN[room].get(folder, ALL) | {folder}


def against_the_layers(found: Iterable[Import]) -> list[str]:
    """The imports that run up, or across within a room."""
    return [
        f"{each.file} imports {each.name}"
        for each in found
        if each.place[0] not in ALONE and each.target and not _may(each.place, each.target)
    ]


def through_the_wall(found: Iterable[Import]) -> list[str]:
    """The imports of a heavy library that do not go through its door."""
    return [
        f"{each.file} imports {each.library}"
        for each in found
        if each.library in DOORS and not each.file.startswith(tuple(DOORS[each.library]))
    ]


def past_the_front_door(found: Iterable[Import]) -> list[str]:
    """The imports of commands that go past the API."""
    return [
        f"{each.file} imports {each.name}"
        for each in found
        if each.file.startswith("cli/") and each.target and each.target[0] not in ("api", "cli", "core")
        if not any(f"{each.name}.".startswith(f"lorasweep.{name}.") for name in _beside_the_door(each.file))
    ]


def _beside_the_door(file: str) -> set[str]:
    return {name for place, names in BESIDE_THE_DOOR.items() if file.startswith(place) for name in names}


FOUND = [
    each
    for file in sorted(ROOT.rglob("*.py"))
    for each in imports_of(str(file.relative_to(ROOT)), file.read_text(encoding="utf-8"))
]
ALL = {folder for _, folder in (each.place for each in FOUND)}


def test_commands_call_the_api_and_nothing_under_it() -> None:
    assert past_the_front_door(FOUND) == []
    named = {(place, name) for place, names in BESIDE_THE_DOOR.items() for name in names}
    idle = {
        (place, name)
        for place, name in named
        if not any(each.file.startswith(place) and f"{each.name}.".startswith(f"lorasweep.{name}.") for each in FOUND)
    }
    assert idle == set(), "what a command imports no more may not stay allowed"
    planted = imports_of("cli/doctor_commands.py", "def run():\n    from lorasweep.sweep import driver")
    assert past_the_front_door(planted) == ["cli/doctor_commands.py imports lorasweep.sweep.driver"]


def test_every_room_has_its_layer() -> None:
    rooms = {file.relative_to(ROOT).parts[0].removesuffix(".py") for file in ROOT.rglob("*.py")}
    assert rooms == {*ROOMS, *ALONE}


def test_imports_flow_down() -> None:
    assert sum(each.target is not None for each in FOUND) > 1000
    assert against_the_layers(FOUND) == []


def test_no_files_import_each_other_in_a_circle() -> None:
    assert circle(FOUND) == []
    planted = Import("core/records.py", "lorasweep.core.run_folder.RunFolder")
    assert set(circle([*FOUND, planted])) == {"core/records.py", "core/run_folder.py"}


def test_heavy_libraries_have_one_door() -> None:
    assert {each.library for each in FOUND} >= set(DOORS)
    assert through_the_wall(FOUND) == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("components/adapters/lora.py", "from lorasweep.results import runs"),  # up
        ("core/records.py", "from lorasweep import config"),
        ("components/metrics/norms.py", "from lorasweep import run_trial"),
        ("data/order.py", "import lorasweep\nlorasweep.plan(1)"),
        ("config/rules.py", "importlib.import_module('lorasweep.trial.judge.score')"),
        ("trial/judge/score.py", "from lorasweep.sweep.ranking import state"),
        ("trial/run.py", "from lorasweep import config"),
        ("config/tree.py", "from lorasweep.trial import finish"),
        (
            "components/optimizers/adamw.py",
            "def build():\n    import lorasweep.components.adapters.lora",
        ),  # across
        ("results/report/page.py", "from lorasweep.results.tracking import push"),
        ("trial/train/loop.py", "from lorasweep.trial.judge import score"),
    ],
)
def test_a_planted_import_is_found(file: str, source: str) -> None:
    assert len(against_the_layers(imports_of(file, source))) == 1


def test_a_planted_library_is_found() -> None:
    planted = "if TYPE_CHECKING:\n    from optuna import Trial"
    found = through_the_wall(imports_of("results/tracking/push.py", planted))
    assert found == ["results/tracking/push.py imports optuna"]


@pytest.mark.parametrize(
    "words",
    [["--help"], ["plan", "quickstart"], ["plan", "adapter.dim=4", "--json"], ["status"]],
    ids=" ".join,
)
def test_no_torch_without_training(words: list[str], home: Path) -> None:
    code = (
        "import sys\n"
        "from lorasweep.cli import main\n"
        "try: code = main(sys.argv[1:])\n"
        "except SystemExit as stop: code = stop.code\n"
        "heavy = {'torch', 'mlflow', 'optuna', 'diffusers', 'transformers', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
