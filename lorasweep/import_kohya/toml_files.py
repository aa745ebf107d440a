"""Read kohya's TOML files as data: the training options as one flat dict, the subsets of images as a list.

As sd-scripts does it: sections of the training file are only headlines, their keys lie side by side; a
subset takes what it lacks from its dataset, that from `[general]`, and that from the training options. A file
that has both is read as both.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorasweep.errors import ConfigError, Problem

_DATASET_SECTIONS = ("general", "datasets")
_LARGEST_BYTES = 1_000_000


@dataclass(frozen=True)
class Given:
    """What the files say.

    Attributes:
        training: the training options by name.
        datasets: the `[[datasets]]`, each with what it inherits from `[general]`, but for its subsets.
        subsets: of the first dataset, each with what it inherits from that; one without a dataset file, when
            there is a `train_data_dir`.
    """

    training: dict[str, Any]
    datasets: list[dict[str, Any]]
    subsets: list[dict[str, Any]]


def read(config: Path, dataset: Path | None = None) -> Given:
    """Read the training file, and the dataset file that it names or that is given.

    Args:
        config: the training TOML; may hold `[[datasets]]` too.
        dataset: the dataset TOML; None takes the file that `dataset_config` names, if it is there.

    Raises:
        ConfigError: a file is missing, is no TOML, or has another shape.
    """
    content = _read_toml(config)
    training = _flat({key: value for key, value in content.items() if key not in _DATASET_SECTIONS})
    described = {key: content[key] for key in _DATASET_SECTIONS if key in content}
    named = training.get("dataset_config")
    if dataset is None and isinstance(named, str) and not described:
        dataset = _beside(config, named)
    if dataset is not None:
        described = _read_toml(dataset)
    where = dataset or config
    datasets = _datasets(described, where)
    first = datasets[0].pop("subsets", []) if datasets else []
    for other in datasets[1:]:
        other.pop("subsets", None)
    subsets = [{**datasets[0], **subset} for subset in _tables(first, "subsets", where)]
    return Given(training=training, datasets=datasets, subsets=subsets)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise _refused(path, "is too large for a kohya config")
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise _refused(path, f"cannot be read: {error.strerror}", f"looked at {path.absolute()}") from error
    except UnicodeDecodeError as error:
        raise _refused(path, "must be UTF-8 text", "save it again as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        hint = (
            "kohya_ss saves JSON: print its training command and take the TOML"
            if path.suffix == ".json"
            else ""
        )
        raise _refused(path, f"is not TOML: {error}", hint) from error


def _flat(content: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat.update(value if isinstance(value, Mapping) else {key: value})
    return flat


def _beside(config: Path, named: str) -> Path | None:
    """The dataset file where sd-scripts looks, in the working folder, or else beside the training file."""
    candidates = (Path(named).expanduser(), config.parent / named)
    return next((path for path in candidates if path.is_file()), None)


def _datasets(described: Mapping[str, Any], where: Path) -> list[dict[str, Any]]:
    general = described.get("general", {})
    if not isinstance(general, Mapping):
        raise _refused(where, f"[general] must be a table, got {general!r}")
    unknown = sorted(set(described) - set(_DATASET_SECTIONS))
    if unknown:
        hint = "a dataset file has [general] and [[datasets]] with [[datasets.subsets]]"
        raise _refused(where, f"has sections that a dataset file has not: {', '.join(unknown)}", hint)
    return [{**general, **dataset} for dataset in _tables(described.get("datasets", []), "datasets", where)]


def _tables(value: Any, name: str, where: Path) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise _refused(where, f"[[{name}]] must be a list of tables, got {value!r}")
    return [dict(item) for item in value]


def _refused(path: Path, message: str, hint: str = "") -> ConfigError:
    return ConfigError(Problem(str(path), message, hint), subject="the kohya files")
