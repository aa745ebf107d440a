"""The table of what becomes of every option of a trainer: data, read from a YAML file beside its importer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_KINDS: dict[str, type] = {"int": int, "float": float, "bool": bool, "str": str, "list": list}


@dataclass(frozen=True)
class Option:
    """A translated option."""

    kind: type  # int, float, bool, str, or list for arguments, whose options are `option.argument`
    keys: tuple[str, ...] = ()  # the recipe keys that it decides
    default: Any = None  # what the trainer takes when it is not given
    low: float | None = None  # low, high: the least and the most that makes sense; None is open
    high: float | None = None
    zero_is_unset: bool = False  # 0 is written for "not given", as windows over trainers do
    plain: bool = False  # it alone decides its one key, whose value is the option's
    # the trainer's words, in lower case, and what of ours each is; nothing else may stand there
    values: Mapping[str, Any] = field(default_factory=dict)
    otherwise: Any = None  # our word where the trainer's has no counterpart
    note: str = ""  # how ours differs, told where it is on


@dataclass(frozen=True, kw_only=True)
class Table:
    """What becomes of every option of a trainer."""

    trainer: str  # whose, for messages
    label: str  # the same in a word
    translated: Mapping[str, Option]  # option -> how
    unsupported: Mapping[str, str]  # option -> why it has no counterpart
    # the value that switches an unsupported option off, where that is not false, 0, "" or nothing
    off: Mapping[str, Any]
    harmless: Mapping[str, str]  # option -> why leaving it out changes nothing that is learned
    # what else the file holds: for the trainer's own functions, and where names and defaults were read
    more: Mapping[str, Any]

    def matters(self, option: str) -> tuple[bool, str] | None:
        """Whether leaving out an option matters, and why; None when the table says nothing.

        What it says of the option itself comes before what it says of the section that the option is in.
        """
        parts = option.split(".")
        for name in (".".join(parts[:length]) for length in range(len(parts), 0, -1)):
            for reasons, matters in ((self.unsupported, True), (self.harmless, False)):
                if name in reasons:
                    return matters, reasons[name]
        return None


def read_table(file: Path) -> Table:
    """Read the table; `config/kohya/options.yaml` shows and explains the form."""
    data = yaml.safe_load(file.read_text(encoding="utf-8"))
    rows = data.pop("translated")
    return Table(
        trainer=data.pop("trainer"),
        label=data.pop("label"),
        translated={
            name: Option(**{**row, "kind": _KINDS[row["kind"]], "keys": tuple(row.get("keys", ()))})
            for name, row in rows.items()
        },
        unsupported=_by_option(data.pop("unsupported")),
        off=data.pop("switched_off", {}),
        harmless=_by_option(data.pop("harmless")),
        more=data,
    )


def _by_option(reasons: Mapping[str, str]) -> dict[str, str]:
    """Reason -> options becomes option -> reason."""
    return {option: reason for reason, options in reasons.items() for option in options.split()}
