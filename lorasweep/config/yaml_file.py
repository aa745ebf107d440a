"""Read a YAML file that came from somebody else, as data; write a record as YAML.

Tags, anchors and `${...}` are refused: nothing in a shared file can name code, grow without bound or read the
environment.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from lorasweep.config.override import unsafe
from lorasweep.config.text_value import Scalar
from lorasweep.core import once
from lorasweep.core.errors import ConfigError, Problem
from lorasweep.core.records import to_dict

_LARGEST_BYTES = 1_000_000  # a sweep of a hundred arms is some 20 kB


class _Loader(yaml.SafeLoader):
    """Takes keys as they are written (`8`, `on`), and keeps how numbers and booleans were written.

    Numbers are those of the command line: 1e-4 is one, 1:30 and 010 are none, and a date is text.
    """

    # 1.1 of YAML also has base 60, base 8 by a leading zero, and needs a dot in 1e-4.
    yaml_implicit_resolvers = {
        first: [
            (tag, pattern) for tag, pattern in resolvers if tag in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:null")
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        value = super().construct_object(node, deep=deep)
        return Scalar(node.value, value) if isinstance(value, bool | int | float) else value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key.start_mark)
            if key.value in found:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key `{key.value}` is given twice", key.start_mark
                )
            found[key.value] = self.construct_object(value, deep=True)
        return found


_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?(?:0|[1-9][0-9_]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"[-+]?(?:(?:[0-9][0-9_]*)?\.[0-9_]+|[0-9][0-9_]*\.)(?:[eE][-+]?[0-9]+)?$"
        r"|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+$|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)


@once.per_arguments
def read_yaml(path: Path) -> Any:
    """Read a YAML file into data whose unquoted numbers and booleans are `Scalar`s.

    Raises:
        ConfigError: the file is missing, empty, not UTF-8, not YAML, or more than data.
    """
    text = read_text(path, subject="the sweep file")
    try:
        _refuse_tags_and_anchors(text, path)
        data = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise _refused(path, f"is not YAML: {_where_and_why(error)}") from error
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


def read_text(path: Path, *, subject: str) -> str:
    """Read a small UTF-8 text of somebody else's; raises ConfigError. UTF-16 without a mark is full of NUL."""
    try:
        size = path.stat().st_size
        text = path.read_bytes().decode("utf-8-sig") if size <= _LARGEST_BYTES else ""
    except OSError as error:
        hint = f"looked at {path.absolute()}"
        raise ConfigError(Problem(str(path), f"cannot be read: {error.strerror}", hint), subject=subject) from error
    except UnicodeDecodeError:
        text = "\0"
    if size > _LARGEST_BYTES:
        raise ConfigError(Problem(str(path), f"is too large for a config ({size} bytes)"), subject=subject)
    if "\0" in text:
        raise ConfigError(Problem(str(path), "must be UTF-8 text", "save it again as UTF-8"), subject=subject)
    return text


def _refuse_tags_and_anchors(text: str, path: Path) -> None:
    if not set("!&*").intersection(text):  # what they begin with: to look at every token takes as long as to read them
        return
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        line = token.start_mark.line + 1
        if isinstance(token, yaml.TagToken):
            tag = "".join(part or "" for part in token.value)
            raise _refused(path, f"line {line}: YAML tags are refused, got `{tag}`: a recipe is data", "take it out")
        if isinstance(token, yaml.AnchorToken | yaml.AliasToken):
            hint = "put shared keys under `recipe:`"
            raise _refused(path, f"line {line}: YAML anchors and aliases are not read", hint)


def _refused(path: Path, message: str, hint: str = "") -> ConfigError:
    return ConfigError(Problem(str(path), message, hint), subject="the sweep file")


def _where_and_why(error: yaml.YAMLError) -> str:
    """Say `line 8: could not find expected ':'`, where what is at fault begins."""
    mark = getattr(error, "context_mark", None) or getattr(error, "problem_mark", None)
    why = getattr(error, "problem", None) or " ".join(str(error).split())
    return f"line {mark.line + 1}: {why}" if mark else why
