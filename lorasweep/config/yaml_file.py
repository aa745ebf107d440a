"""Read a YAML file that came from somebody else, as data; write a record as YAML.

Tags, anchors and `${...}` are refused: nothing in a shared file can name code, grow without bound or read the
environment.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lorasweep.config.override import unsafe
from lorasweep.errors import ConfigError, Problem
from lorasweep.records import to_dict

_LARGEST_BYTES = 1_000_000  # a sweep of a hundred arms is some 20 kB


def read_yaml(path: Path) -> Any:
    """Read a YAML file into plain data.

    Raises:
        ConfigError: the file is missing, empty, not UTF-8, not YAML, or more than data.
    """
    text = _read_text(path)
    try:
        _refuse_tags_and_anchors(text, path)
        # OmegaConf's loader reads 1e-4 as a number and refuses duplicate keys, as Hydra does in conf/.
        data = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except yaml.YAMLError as error:
        raise _refused(path, f"is not YAML: {_where_and_why(error)}") from error
    except OmegaConfBaseException as error:
        raise _refused(path, f"cannot be read: {_one_line(error)}") from error
    except RecursionError as error:
        raise _refused(path, "is nested too deeply") from error
    if not data:
        raise _refused(path, "is empty", "see sweeps/quickstart.yaml for an example")
    problems = list(unsafe("", data))
    if problems:
        raise ConfigError(problems, subject=f"the sweep file {path}")
    return data


def to_yaml(record: Any) -> str:
    """Write a record as YAML that a person can read, keys in the record's order."""
    # The C dumper is several times faster, and a sweep writes a recipe for every trial.
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(to_dict(record), Dumper=dumper, sort_keys=False, allow_unicode=True, width=110)
    return text


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise _refused(path, f"is too large for a sweep file ({path.stat().st_size} bytes)")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise _refused(path, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise _refused(path, "must be UTF-8 text", "save it again as UTF-8") from error


def _refuse_tags_and_anchors(text: str, path: Path) -> None:
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        line = token.start_mark.line + 1
        if isinstance(token, yaml.TagToken):
            tag = "".join(part or "" for part in token.value)
            raise _refused(
                path, f"line {line}: YAML tags are refused, got `{tag}`: a recipe is data", "take it out"
            )
        if isinstance(token, yaml.AnchorToken | yaml.AliasToken):
            hint = "put shared keys under `recipe:`"
            raise _refused(path, f"line {line}: YAML anchors and aliases are not read", hint)


def _refused(path: Path, message: str, hint: str = "") -> ConfigError:
    return ConfigError(Problem(str(path), message, hint), subject="the sweep file")


def _where_and_why(error: yaml.YAMLError) -> str:
    """`line 8: could not find expected ':'`, where what is at fault begins."""
    mark = getattr(error, "context_mark", None) or getattr(error, "problem_mark", None)
    why = getattr(error, "problem", None) or _one_line(error)
    return f"line {mark.line + 1}: {why}" if mark else why


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
