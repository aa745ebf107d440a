"""What an import writes down for an option that is not given, against the trainers' own source, where it is at hand.

    SD_SCRIPTS=path/of/a/checkout MUSUBI_TUNER=... ONE_TRAINER=... AI_TOOLKIT=... SIMPLE_TUNER=... DIFFUSERS=... \
        python -m pytest -m slow tests/unit/config/trainers/test_defaults.py

Nothing of theirs is run: defaults are read out of the source.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lorasweep.config.importing.draft import Table
from lorasweep.config.kohya import TABLE as KOHYA
from lorasweep.config.kohya import flow
from lorasweep.config.trainers import ai_toolkit, diffusers, one_trainer, simple_tuner

pytestmark = pytest.mark.slow

Found = dict[str, list[Any]]  # option -> its defaults, wherever it has one
_OFF = (None, False, 0, "", (), [], {})

# Where ours is what the trainer's code makes of an option that is not given, not what its list of options says.
MADE_LATER = {
    "kohya": {
        "clip_skip": "the last layer",
        "network_dim": "networks/lora.py",
        "optimizer_type": "AdamW in get_optimizer",
        "max_timestep": "all of them",
        "timestep_sampling": "of each base: flow.py",
        "discrete_flow_shift": "of each base: flow.py",
        "model_type": "FLUX.1, unless it is told",
        "sample_sampler": "only told with pictures",
        "weighting_scheme": "uniform is of SD3; FLUX.1's is none",
    },
    "musubi-tuner": {
        "network_dim": "networks/lora.py",
        "optimizer_type": "AdamW in get_optimizer",
        "max_timestep": "all of them",
        "mixed_precision": "accelerate's own: told",
        "discrete_flow_shift": "1 in flow.py",
    },
    "ai-toolkit": {
        "model.arch": "sd1 where no flag says more",
        "network.linear": "with rank, in NetworkConfig",
        "train.unet_lr": "lr",
        "train.text_encoder_lr": "lr",
        "network.linear_alpha": "alpha",
        "network.conv_alpha": "conv",
        "train.gradient_accumulation_steps": "1 is as if it were not given",
    },
    "OneTrainer": {
        "base_model_name": "a name on a hub: must be given",
        "concept_file_name": "read where it lies",
        "optimizer": "a section",
    },
    "SimpleTuner": {"lycoris_config": "read where it lies"},
    "diffusers": {"mixed_precision": "accelerate's own: told", "caption_column": "whichever metadata.jsonl has"},
}


def checkout(name: str) -> Path:
    if name not in os.environ:
        pytest.skip(f"needs {name}=path of a checkout")
    return Path(os.environ[name])


def calls(*files: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call, with the class that it stands in."""
    assert files
    for file in files:
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            for call in ast.walk(node):
                if isinstance(call, ast.Call):
                    yield node.name if isinstance(node, ast.ClassDef) else "", call


def value(node: ast.expr | None) -> Any:
    """A literal; of anything else its last word: an enumeration's, a constant's."""
    try:
        return node and ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node).rsplit(".", 1)[-1] if node else None


def of_argparse(*files: Path) -> Found:
    found: Found = {}
    for _, call in calls(*files):
        words = {word.arg: value(word.value) for word in call.keywords}
        if isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument" and call.args:
            name = str(value(call.args[-1])).removeprefix("--")
            found.setdefault(name, []).append(words.get("default", words.get("action") == "store_false"))
    return found


def of_kwargs(file: Path, sections: dict[str, str]) -> Found:
    found: Found = {}
    for where, call in calls(file):
        if where in sections and ast.unparse(call.func) == "kwargs.get":
            name, *rest = call.args
            found.setdefault(f"{sections[where]}{value(name)}", []).append(value(rest[0]) if rest else None)
    return found


def of_appended(files: dict[Path, dict[str, str]]) -> Found:
    found: Found = {}
    for file, sections in files.items():
        for where, call in calls(file):
            if where in sections and ast.unparse(call.func) == "data.append" and isinstance(call.args[0], ast.Tuple):
                name, default, *_ = call.args[0].elts
                found.setdefault(f"{sections[where]}{value(name)}", []).append(value(default))
    return found


def of_fields(*files: Path) -> Found:
    found: Found = {}
    for _, call in calls(*files):
        words = {word.arg: word.value for word in call.keywords}
        if ast.unparse(call.func) == "ConfigField":
            found.setdefault(str(value(words["name"])), []).append(value(words.get("default_value")))
    return found


def compare(table: Table, found: Found, at_least: int) -> None:
    known, later = {name for name in table.translated if name in found}, MADE_LATER[table.label]
    assert len(known) >= at_least, sorted(known)
    other = {
        name: (table.translated[name].default, found[name])
        for name in sorted(known - later.keys())
        if not any(is_alike(table.translated[name].default, theirs) for theirs in found[name])
    }
    assert not other


def is_alike(ours: Any, theirs: Any) -> bool:
    if ours in _OFF or theirs in _OFF:
        return ours in _OFF and theirs in _OFF
    try:
        return float(ours) == float(theirs)
    except (TypeError, ValueError):
        return str(ours) == str(theirs)


def test_sd_scripts() -> None:
    root = checkout("SD_SCRIPTS")
    library = (root / "library").glob("*train_util*.py")
    found = of_argparse(root / "train_network.py", *library, *(root / "library").glob("custom_train_functions.py"))
    compare(KOHYA, found, 60)


def test_musubi_tuner() -> None:
    root = checkout("MUSUBI_TUNER") / "src" / "musubi_tuner"
    table = flow.table_of({}, {flow.RENAMED["dit"]: "dit"})
    compare(table, of_argparse(root / "training" / "parser_common.py"), 25)


def test_ai_toolkit() -> None:
    sections = {
        "NetworkConfig": "network.",
        "TrainConfig": "train.",
        "ModelConfig": "model.",
        "DatasetConfig": "datasets.",
    }
    compare(ai_toolkit.TABLE, of_kwargs(checkout("AI_TOOLKIT") / "toolkit" / "config_modules.py", sections), 45)


def test_one_trainer() -> None:
    root = checkout("ONE_TRAINER") / "modules" / "util" / "config"
    concept = {"ConceptConfig": "concepts.", "ConceptTextConfig": "concepts.text."}
    train = {"TrainConfig": "", "TrainOptimizerConfig": "optimizer."}
    compare(one_trainer.TABLE, of_appended({root / "TrainConfig.py": train, root / "ConceptConfig.py": concept}), 50)


def test_one_trainers_optimizers() -> None:
    source = (checkout("ONE_TRAINER") / "modules" / "util" / "create.py").read_text(encoding="utf-8")
    cases: dict[str, list[ast.AST]] = {}
    for case in ast.walk(ast.parse(source)):
        if isinstance(case, ast.match_case) and isinstance(case.pattern, ast.MatchValue):
            cases.setdefault(str(value(case.pattern.value)).lower(), []).extend(ast.walk(case))
    for names, kind in one_trainer.TABLE.more["optimizers"].items():
        for name in names.split():
            theirs = {  # `optimizer_config.beta1 if optimizer_config.beta1 is not None else 0.9`
                value(node.body): value(node.orelse) for node in cases[name] if isinstance(node, ast.IfExp)
            }
            betas = kind["knobs"].get("betas", [])
            ours = {**kind["knobs"], **{f"beta{at}": beta for at, beta in enumerate(betas, start=1)}}
            # What is no number but a checkbox has its own default, which counts before the code's.
            both = [knob for knob in ours if knob in theirs and not isinstance(ours[knob], bool)]
            assert both
            assert {knob: ours[knob] for knob in both} == {knob: theirs[knob] for knob in both}, name


def test_simple_tuner() -> None:
    root = checkout("SIMPLE_TUNER") / "simpletuner"
    fields = root / "simpletuner_sdk" / "server" / "services" / "field_registry" / "sections"
    compare(simple_tuner.TABLE, of_fields(*fields.glob("*.py")), 40)


@pytest.mark.parametrize("script", diffusers.TABLE.more["defaults"])
def test_diffusers(script: str) -> None:
    (file,) = (checkout("DIFFUSERS") / "examples").glob(f"*/{script}.py")
    found, options = of_argparse(file), {diffusers.MARK: script}
    table = diffusers.read(options, Path(), None).table
    assert table is not None
    compare(table, found, 24)
    ours = {*table.translated, *table.unsupported, *table.harmless}
    assert found.keys() <= ours


def test_simple_tuners_optimizers() -> None:
    file = checkout("SIMPLE_TUNER") / "simpletuner" / "helpers" / "training" / "optimizer_param.py"
    theirs: dict[str, dict[str, Any]] = {}
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        for key, inner in zip(node.keys, node.values, strict=True) if isinstance(node, ast.Dict) else ():
            parts = (
                {value(k): v for k, v in zip(inner.keys, inner.values, strict=True)}
                if isinstance(inner, ast.Dict)
                else {}
            )
            if "default_settings" in parts:
                theirs[str(value(key))] = value(parts["default_settings"])
    same = {"clip_threshold": "d", "scale_parameter": ""}
    for names, kind in simple_tuner.TABLE.more["optimizers"].items():
        for name in names.split():
            given = theirs[{"adamw": "torch-adamw"}.get(name, name)]
            for knob, ours in kind["knobs"].items():
                if (known := same.get(knob, knob)) in given:
                    assert ours == (list(given[known]) if knob == "betas" else given[known]), (name, knob)
