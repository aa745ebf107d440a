"""The house rules as tests: who may import whom, which library has which door, what never loads torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import lorasweep

ROOT = Path(lorasweep.__file__).parent

# Lower layers first; a module may import from its own room and from lower layers.
LAYERS = {
    0: {
        "records",
        "errors",
        "protocols",
        "seeds",
        "paths",
        "files",
        "printable",
        "streams",
        "console",
        "markdown",
        "provenance",
        "speed",
        "footprint",
        "__init__",
    },
    1: {"config", "buckets", "data", "schedulers", "output_folder", "progress"},
    2: {"plan"},
    3: {
        "bases",
        "adapters",
        "optimizers",
        "regularizers",
        "cache",
        "train",
        "sample",
        "sheet",
        "metrics",
        "inference",
        "tracking",
        "dollhouse",
    },
    4: {"kitchen", "class_images", "keep", "run", "mlflow_model"},
    5: {"sweep"},
    6: {"runs"},
    7: {
        "report",
        "export",
        "doctor",
        "calibrate",
        "plan_view",
        "import_kohya",
    },
    8: {"api"},
    9: {"cli", "__main__"},
}
LAYER_OF = {room: layer for layer, rooms in LAYERS.items() for room in rooms}

ALL = set(LAYER_OF)

# Planning draws the dollhouse's dataset.
UP = {("plan", "dollhouse")}
# Within a layer nobody imports a neighbour, but for these.
ACROSS = {
    ("console", "printable"),
    ("console", "streams"),
    ("markdown", "printable"),
    ("paths", "errors"),
    ("protocols", "records"),
    ("speed", "files"),
    ("speed", "paths"),
    ("speed", "records"),
    ("streams", "printable"),
    ("bases", "dollhouse"),
    ("cache", "inference"),
    ("metrics", "inference"),
    ("metrics", "sample"),
    ("metrics", "dollhouse"),
    ("metrics", "cache"),
    ("regularizers", "adapters"),
    ("sample", "inference"),
    ("train", "inference"),
    ("mlflow_model", "keep"),
    ("mlflow_model", "kitchen"),
    ("run", "class_images"),
    ("run", "keep"),
    ("run", "kitchen"),
    ("__main__", "cli"),
}

DOORS = {
    "hydra": {"config"},
    "omegaconf": {"config"},
    "optuna": {"sweep"},
    "mlflow": {"tracking"},
    "transformers": {"bases", "dollhouse", "metrics"},
    "tokenizers": {"bases"},
    "diffusers": {"bases", "adapters", "dollhouse", "sample"},
    "peft": {"adapters", "inference"},
    "prodigyopt": {"optimizers"},
    "pytorch_optimizer": {"optimizers"},
    "bitsandbytes": {"optimizers"},
    "matplotlib": {"plan_view"},
    "jinja2": {"report"},
}


@dataclass(frozen=True)
class Import:
    """One name that a file of the package imports, anywhere in it."""

    file: str  # relative to the package
    name: str  # dotted

    @property
    def room(self) -> str:
        return Path(self.file).parts[0].removesuffix(".py")

    @property
    def target(self) -> str:
        """The room it comes from, "" for other packages and for the package itself."""
        package, _, rest = self.name.partition(".")
        room = rest.split(".")[0]
        return room if package == "lorasweep" and room in LAYER_OF else ""

    @property
    def library(self) -> str:
        return self.name.split(".")[0]


def imports_of(file: str, source: str) -> Iterator[Import]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (Import(file, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (Import(file, f"{node.module}.{alias.name}") for alias in node.names)


def against_the_layers(found: Iterable[Import]) -> list[str]:
    """The imports that run up, or across within a layer, and are not allowed to."""
    return [
        f"{each.file} imports {each.name}"
        for each in found
        if each.target not in ("", each.room)
        and LAYER_OF[each.target] >= LAYER_OF[each.room]
        and (each.room, each.target) not in ACROSS | UP
    ]


def through_the_wall(found: Iterable[Import]) -> list[str]:
    """The imports of a heavy library that do not go through its door."""
    return [
        f"{each.file} imports {each.library}"
        for each in found
        if each.room not in DOORS.get(each.library, ALL)
    ]


FOUND = [
    each
    for file in sorted(ROOT.rglob("*.py"))
    for each in imports_of(str(file.relative_to(ROOT)), file.read_text(encoding="utf-8"))
]


def test_every_room_has_a_layer() -> None:
    rooms = {file.relative_to(ROOT).parts[0].removesuffix(".py") for file in ROOT.rglob("*.py")}
    assert rooms == ALL


def test_imports_flow_down() -> None:
    assert sum(each.target != "" for each in FOUND) > 1000
    assert against_the_layers(FOUND) == []


def test_heavy_libraries_have_one_door() -> None:
    assert {each.library for each in FOUND} >= set(DOORS)
    assert through_the_wall(FOUND) == []


def test_no_exception_outlives_its_use() -> None:
    assert ACROSS | UP == {(each.room, each.target) for each in FOUND} & (ACROSS | UP)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("adapters/lora.py", "from lorasweep.tracking import params"),  # across
        ("adapters/lora.py", "from lorasweep.metrics import score"),
        ("optimizers/adamw.py", "def build():\n    import lorasweep.adapters.lora"),
        ("metrics/score.py", "from lorasweep.sweep import state"),  # up
        ("records.py", "from lorasweep import config"),
    ],
)
def test_a_planted_import_is_found(file: str, source: str) -> None:
    assert len(against_the_layers(imports_of(file, source))) == 1


def test_a_planted_library_is_found() -> None:
    planted = "if TYPE_CHECKING:\n    from optuna import Trial"
    assert through_the_wall(imports_of("tracking/push.py", planted)) == ["tracking/push.py imports optuna"]


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
        "heavy = {'torch', 'mlflow', 'optuna', 'diffusers', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
