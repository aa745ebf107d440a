"""The house rules as tests: who may import whom, which library has which door, what never loads torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import lorasweep

ROOT = Path(lorasweep.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# Lower layers first; a module may import from its own layer's room or from lower layers.
LAYERS = {
    0: {
        "records",
        "errors",
        "protocols",
        "seeds",
        "paths",
        "files",
        "printable",
        "markdown",
        "provenance",
        "speed",
        "footprint",
        "__init__",
    },
    1: {"config", "buckets", "data", "schedulers"},
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
    6: {
        "report",
        "export",
        "doctor",
        "calibrate",
        "plan_view",
        "import_kohya",
        "runs",
    },
    7: {"cli", "__main__"},
}
LAYER_OF = {room: layer for layer, rooms in LAYERS.items() for room in rooms}

# What a lower layer may look up in a catalogue by name; planning draws the dollhouse's dataset.
ALLOWED_UP = {("config", "bases"), ("plan", "dollhouse"), ("plan", "bases"), ("data", "dollhouse")}

DOORS = {
    "hydra": {"config"},
    "omegaconf": {"config"},
    "optuna": {"sweep"},
    "mlflow": {"tracking"},
    "transformers": {"bases", "dollhouse", "metrics"},
    "diffusers": {"bases", "adapters", "dollhouse", "sample"},
    "peft": {"adapters", "inference"},
    "prodigyopt": {"optimizers"},
    "pytorch_optimizer": {"optimizers"},
    "bitsandbytes": {"optimizers"},
    "matplotlib": {"plan_view"},
}


def room_of(file: Path) -> str:
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(file: Path) -> list[tuple[str, bool]]:
    """Dotted names imported anywhere in a file, and whether the import runs at import time."""
    tree = ast.parse(file.read_text())
    lazy: set[ast.AST] = set()
    for node in ast.walk(tree):
        is_typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or is_typing:
            lazy.update(ast.walk(node))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node not in lazy) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [(f"{node.module}.{alias.name}", node not in lazy) for alias in node.names]
    return found


def test_every_room_has_a_layer() -> None:
    assert {room_of(file) for file in FILES} - set(LAYER_OF) == set()


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_flow_down(file: Path) -> None:
    room = room_of(file)
    for name, _ in imports(file):
        parts = name.split(".")
        if parts[0] != "lorasweep" or len(parts) < 2 or parts[1] not in LAYER_OF:
            continue
        target = parts[1]
        down = LAYER_OF[target] < LAYER_OF[room] or target == room
        assert down or LAYER_OF[target] == LAYER_OF[room] or (room, target) in ALLOWED_UP, (
            f"{room} (layer {LAYER_OF[room]}) imports {target} (layer {LAYER_OF[target]})"
        )


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_heavy_libraries_have_one_door(file: Path) -> None:
    for name, _ in imports(file):
        library = name.split(".")[0]
        if library in DOORS:
            assert room_of(file) in DOORS[library], f"{room_of(file)} imports {library}"


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
