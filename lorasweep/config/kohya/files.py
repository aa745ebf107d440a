"""Read kohya's TOML files as data: the training options as one flat dict, the subsets of images as a list.

As sd-scripts does it: sections of the training file are only headlines, their keys lie side by side, and of a
key that stands in two the last one counts. The dataset file is another grammar: `[general]`, `[[datasets]]`
and `[[datasets.subsets]]`, each taking what it lacks from the one before, and that from the training options.
A file that has both is read as both; one that Easy Training Scripts saved is brought into this form first.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorasweep.config.importing import command_line, document
from lorasweep.config.importing.document import named_by_keys, named_by_text, strange_numbers
from lorasweep.config.importing.draft import Note
from lorasweep.config.importing.images import Given, beside
from lorasweep.config.kohya import flow, gui, metadata, sample_prompts
from lorasweep.config.kohya.options import KNOWN, TABLE
from lorasweep.config.yaml_file import read_text
from lorasweep.core.errors import ConfigError, Problem

_SUBJECT = "the kohya files"
_DATASET_SECTIONS = ("general", "datasets")
_SDXL_SECTION = "sdxl_arguments"  # of the colab notebooks for SDXL
_OTHER_NAMES = {"batch_size": "train_batch_size", "num_repeats": "dataset_repeats"}  # in the training options


def read(content: Mapping[str, Any] | None, config: Path, dataset: Path | None) -> Given:
    """Read the training file, and the dataset file (TOML or JSON) that is given, or stands in it, or is named there.

    `content` is the training file's, `[[datasets]]` too; None where it is neither JSON, nor TOML, nor YAML.

    Raises:
        ConfigError: a file is missing, is something else, or has another shape.
    """
    names: dict[str, str] = {}
    left_out: list[Note] = []
    notes: list[Note] = []
    if content is not None and gui.is_of_kohya_ss(content):
        content, names, left_out = gui.as_options(content, config)
    elif content is not None and metadata.is_kept(content):
        notes += metadata.not_kept(content)
        content = {"caption_extension": ".txt", **content}
    elif content is None or not _names_a_network(content):
        content = _read_toml(config)
    elif known := named_by_keys(content):
        raise _refused(config, f"is {known[0]}", known[1])
    if gui.is_of_easy_training(content):
        content = gui.in_sections(content, config)
    training = _renamed(_flat({key: value for key, value in content.items() if key != "datasets"}, notes), names)
    if _SDXL_SECTION in content:
        training.setdefault("sdxl", True)
    described = {key: content[key] for key in _DATASET_SECTIONS if key in content and "datasets" in content}
    _require_training_options(training, config, has_datasets=bool(described))
    named = training.get("dataset_config")
    if dataset is not None and described:
        notes.append(Note("datasets", described["datasets"], f"{dataset.name} takes their place"))
    elif dataset is None and not described and isinstance(named, str) and named:
        dataset = _beside(config, named)
    if dataset is not None:
        described = _dataset_file(dataset)
    shared, subsets, others = _in_datasets(described, dataset or config, names)
    trained = [subset for subset in subsets if not _is_regularization(subset)]
    own = {**shared, **(trained[0] if trained else {})}
    for number, other in others.items():
        notes.append(
            Note(f"datasets[{number}]", other, "there is one resolution: what has the first dataset's is taken")
        )
    return Given(
        options={**training, **own},
        trained=trained,
        regularization=[subset for subset in subsets if _is_regularization(subset)],
        untranslated=notes,
        left_out=[*_hidden(training, own), *left_out],
        names=names,
        pictures=sample_prompts.read(training, config),
        table=flow.table_of({**training, **own}, names),
    )


def _names_a_network(content: Mapping[str, Any]) -> bool:
    """Tell whether options in JSON or YAML are sd-scripts', in sections or not: other trainers have like words."""
    sections = (value for value in content.values() if isinstance(value, Mapping))
    return "network_module" in content or any("network_module" in section for section in sections)


def _is_regularization(subset: Mapping[str, Any]) -> bool:
    return str(subset.get("is_reg")).lower() in ("true", "1")


def _hidden(training: Mapping[str, Any], own: Mapping[str, Any]) -> list[Note]:
    """Return what of the training options a dataset says otherwise."""
    return [
        Note(name, training[name], f"the dataset file's own {option} counts, as in sd-scripts")
        for option, value in own.items()
        for name in dict.fromkeys((option, _OTHER_NAMES.get(option, option)))
        if name in training and training[name] != value
    ]


def _in_datasets(
    described: Mapping[str, Any], where: Path, names: dict[str, str]
) -> tuple[dict[str, Any], list[dict[str, Any]], dict[int, dict[str, Any]]]:
    """Return the first dataset's options, with `[general]`'s, the subsets of its resolution, the others by number."""
    general = described.get("general", {})
    if not isinstance(general, Mapping):
        raise _refused(where, f"[general] must be a table, got {general!r}")
    datasets = [{**general, **each} for each in _tables(described.get("datasets", []), "datasets", where)]
    if any(flow.RENAMED.keys() & each for each in datasets):  # musubi-tuner's: each is one folder
        datasets = [{**general, "subsets": [_renamed(each, names) for each in datasets]}]
    shared, subsets, others = (datasets or [{}])[0], [], {}
    for number, each in enumerate(datasets, start=1):
        own = _tables(each.pop("subsets", []), "subsets", where)
        if each.get("resolution") == shared.get("resolution"):
            subsets += [{**each, **subset} for subset in own]
        else:
            others[number] = {**each, "subsets": len(own)}
    return shared, subsets, others


def _require_training_options(training: Mapping[str, Any], path: Path, *, has_datasets: bool) -> None:
    known = training.keys() & {*TABLE.translated, *TABLE.unsupported}
    if has_datasets and known <= set(TABLE.more["of_datasets"].split()):
        hint = "give the training TOML first: lorasweep import TRAINING.toml --dataset THIS.toml"
        raise _refused(path, "is a dataset file, without any training option", hint)
    if not known:
        what = f"has no option of sd-scripts' LoRA training, only {', '.join([*training][:9])}"
        hint = "e.g. network_module, learning_rate, max_train_steps: see docs/flags.md"
        raise _refused(path, what if training else "is empty", hint)


def _renamed(options: Mapping[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Return options under sd-scripts' names; adds to `names` what the file calls them."""
    names |= {flow.RENAMED[option]: option for option in options if option in flow.RENAMED}
    module = options.get("network_module")
    if isinstance(module, str):  # as an installed musubi-tuner finds it
        options = {**options, "network_module": module.removeprefix("musubi_tuner.")}
    return {flow.RENAMED.get(option, option): value for option, value in options.items()}


def _read_toml(path: Path, *, is_named: bool = False) -> dict[str, Any]:
    """Return a TOML's content or, where no command names it, the options of the command line that starts a training."""
    text = read_text(path, subject=_SUBJECT)
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        if not is_named and (command := command_line.read(path, text, r"\w*train_network", {*KNOWN, *flow.RENAMED})):
            script, found, launcher = command
            found |= {"sdxl": True} if script == "sdxl_train_network" else {}
            found |= {"num_processes": launcher["num_processes"]} if "num_processes" in launcher else {}
            named = found.pop("config_file", None)
            return found if named is None else {**_config_file(path, str(named)), "the command line": found}
        if other := named_by_text(text):
            raise _refused(path, f"is {other[0]}", other[1]) from error
        is_path = "\\" in text and ("Unescaped" in str(error) or "hex" in str(error))
        hint = "a path with backslashes stands in single quotes: 'D:\\images'" if is_path else ""
        is_toml_error = isinstance(error, tomllib.TOMLDecodeError)
        what = str(error) if is_toml_error else "a number or a nesting in it is beyond any option"
        raise _refused(path, f"is not TOML: {what}", hint) from error
    if other := named_by_keys(content):
        raise _refused(path, f"is {other[0]}", other[1])
    if strange := next(strange_numbers("", content), None):
        raise _refused(path, strange, "mend the TOML")
    return content


def _config_file(script: Path, named: str) -> dict[str, Any]:
    """Read the TOML that a command line names, with its ending or without."""
    if path := beside(script, named if named.endswith(".toml") else f"{named}.toml"):
        return _read_toml(path, is_named=True)
    hint = "lay that TOML beside it, or import it with these options written into it: they win over it"
    raise _refused(script, f"is a command line that reads {named}, which is not here", hint)


def _flat(content: Mapping[str, Any], notes: list[Note]) -> dict[str, Any]:
    """Return all options side by side; one that stands in two sections counts as it stands in the last."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        for option, inner in (value if isinstance(value, Mapping) else {key: value}).items():
            if option in flat and flat[option] != inner:
                place = f"as in [{key}]" if isinstance(value, Mapping) else "as outside of all sections"
                reason = f"stands there twice: the last one counts, {place}, as in sd-scripts"
                notes.append(Note(option, flat[option], reason))
            flat[option] = inner
    return flat


def _beside(config: Path, named: str) -> Path:
    """Return the dataset file where sd-scripts looks, in the working folder, or else beside the training file."""
    if path := beside(config, named):
        return path
    hint = "give it with --dataset FILE, or take dataset_config out of the TOML"
    raise _refused(config, f"names dataset_config = {named!r}, which is not here", hint)


def _dataset_file(path: Path) -> dict[str, Any]:
    """Read TOML or, by the name's end, JSON, as sd-scripts does."""
    if path.suffix.lower() == ".json":
        try:
            content = document.as_json(path, read_text(path, subject=_SUBJECT))
        except (ValueError, RecursionError) as error:
            raise _refused(path, f"is not JSON: {error}") from error
    else:
        content = _read_toml(path)
    unknown = sorted(set(content) - set(_DATASET_SECTIONS)) if isinstance(content, Mapping) else ["a list"]
    if unknown or not content.get("datasets"):
        hint = "a dataset file has [general] and [[datasets]] with [[datasets.subsets]]"
        what = f"has sections that a dataset file has not: {', '.join(unknown)}" if unknown else "has no [[datasets]]"
        raise _refused(path, what, hint)
    return dict(content)


def _tables(value: Any, name: str, where: Path) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise _refused(where, f"[[{name}]] must be a list of tables, got {value!r}")
    return [dict(item) for item in value]


def _refused(path: Path, message: str, hint: str = "") -> ConfigError:
    return ConfigError(Problem(str(path), message, hint), subject=_SUBJECT)
