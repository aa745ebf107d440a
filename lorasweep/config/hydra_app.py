"""lorasweep as the Hydra app that Hydra's users expect: `-m`, `--cfg job`, `--info`, tab completion.

    python -m lorasweep -m optimizer=adamw,prodigy 'optimizer.lr=tag(log,interval(1e-5,1e-3))' sweep.total=20
    lorasweep train adapter=locon --cfg job
    eval "$(lorasweep --shell-completion install=bash)"

A multirun is handed to the sweeper plugin (`hydra_plugins/lorasweep_sweeper.py`); everything else is Hydra's
own. What a multirun is asked for goes around Hydra, whose parser reads less than ours. Knows nothing about
sweeps.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import hydra

from lorasweep.config.override import is_override, parse, repeats
from lorasweep.config.places import conf_dir, search_path, sweeps_dir
from lorasweep.config.text_value import is_text
from lorasweep.config.tree import compose_tree
from lorasweep.core.errors import ConfigError, Problem
from lorasweep.core.files import matching
from lorasweep.core.hydra_text import write

SWEEPER = "hydra/sweeper"
LAUNCHER = "hydra/launcher"
BASIC, OURS = "basic", "lorasweep"
MULTIRUN = ("-m", "--multirun")
VALUED = ("-c", "--cfg", "-p", "--package", "-i", "--info")  # options that a value may follow
_OWN, _FILE = "sweep", "sweep="
_HYDRAS = re.compile(r"[+~]*hydra([./=]|$)")
_of_multirun: list[str] = []  # the overrides of the multirun that is being run, as they were typed
# What of Hydra's command line makes sense here: its other options point it at other configurations.
FLAGS = (*MULTIRUN, "-c", "--cfg", "-p", "--package", "--resolve", "-i", "--info", "--hydra-help")
COMPLETION = ("-sc", "--shell-completion")


def run_app(words: Sequence[str], *, commands: Sequence[str]) -> int:
    """Run Hydra over the recipe's configuration, and return the exit code, unless Hydra ends the program itself.

    Args:
        words: the command line after the program's name; a leading `train` is not Hydra's.
        commands: lorasweep's own commands, to be completed beside the recipe's keys.

    Raises:
        ConfigError: another launcher, or an option of Hydra's that does not apply.
    """
    asked = list(words[1:] if words[:1] == ["train"] else words)
    if any(word in COMPLETION for word in asked):
        return _complete(asked, commands)
    overrides, options = _parted(asked)
    problems = [*_option_problems(options), *_setting_problems(overrides)]
    ours = [word for word in overrides if not _HYDRAS.match(word)]
    problems += repeats([word for word in ours if word.startswith(_FILE)])
    is_multirun = set(options) <= set(MULTIRUN)
    if not is_multirun and not problems:
        problems += _unknown_files(ours)
    if problems:
        raise ConfigError(problems, subject="the command line")
    # Hydra's parser wants its overrides side by side; ours may be typed anywhere.
    chosen = f"{SWEEPER}={OURS}"
    if is_multirun:
        _of_multirun[:] = ours
        _hydra([chosen, *options])
    else:
        _hydra([*map(_spelled, ours), chosen, *options])
    return 0


def _parted(words: Sequence[str]) -> tuple[list[str], list[str]]:
    overrides: list[str] = []
    options: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        of_option = before in VALUED and "=" not in word
        (options if word.startswith("-") or of_option else overrides).append(word)
    return overrides, options


def read_words() -> tuple[str | None, list[str]]:
    """Return the sweep's name or file that the multirun was asked for, None when there is none, and the overrides."""
    files = [word for word in _of_multirun if word.endswith(".yaml") and not is_override(word)]
    names = [word for word in _of_multirun if word.startswith(_FILE) or word in files]
    overrides = [word for word in _of_multirun if word not in names]
    return names[-1].removeprefix(_FILE) if names else None, overrides


def _spelled(word: str) -> str:
    """Spell `sweep=NAME`, `sweep.total=20` and `captions.trigger=zoé` so that Hydra takes them."""
    if word.startswith(_FILE):
        return f"+{_OWN}.file={word.removeprefix(_FILE)}"
    key, equals, _ = word.partition("=")
    if equals and is_text(key) and (overrides := parse([word])[0]):
        return write(key, overrides[0].value)
    return f"+{word}" if word.startswith(f"{_OWN}.") else word


def refuse_launcher(name: str) -> None:
    """Raise ConfigError for every launcher but Hydra's default, which stands for none."""
    if name and name != BASIC and "basic_launcher" not in name:
        message = f"`{name}` cannot start lorasweep's trials: jobs of a launcher load the base model anew each"
        hint = "leave it out: workers are launcher.workers=4, one per GPU by default"
        raise ConfigError(Problem(LAUNCHER, message, hint), subject="the command line")


def _setting_problems(words: Sequence[str]) -> Iterator[Problem]:
    """Name settings of Hydra's own, which would have no effect here."""
    for word in words:
        key, _, name = word.partition("=")
        if key == LAUNCHER:
            refuse_launcher(name)
        elif key == SWEEPER and name != OURS:
            hint = "leave it out: sweep.sampler=random, grid, tpe or pareto says how to search"
            yield Problem(SWEEPER, f"`{name}` cannot drive lorasweep's workers", hint)
        elif key != SWEEPER and _HYDRAS.match(word):
            hint = "only the recipe's keys, see conf/recipe.yaml; results go to LORASWEEP_HOME"
            yield Problem(word, "Hydra's own settings cannot be changed", hint)


def _option_problems(options: Sequence[str]) -> Iterator[Problem]:
    """Name options that do not apply, and several of Hydra's questions at once, of which it answers one."""
    kinds = {"-m": "--multirun", "-c": "--cfg", "-i": "--info"}
    given = [word.split("=")[0] for word in options if word.startswith("-")]
    yield from (
        Problem(word, "does not apply here", f"known: {', '.join(FLAGS)}") for word in given if word not in FLAGS
    )
    asked = dict.fromkeys(kinds.get(word, word) for word in given)
    first, *others = [word for word in asked if word in kinds.values()] or [""]
    if others:
        yield Problem(first, f"cannot be combined with {', '.join(others)}", "leave one out")


def _unknown_files(words: Sequence[str]) -> list[Problem]:
    """Return what composes to nothing, in our words."""
    overrides, problems = parse([word for word in words if not re.match(rf"\+?{_OWN}[.=]", word)])
    return problems + compose_tree(overrides)[1]


def _hydra(words: Sequence[str]) -> None:
    def task(config: Any) -> None:
        """Do nothing: a single run is `lorasweep train`, and a multirun is the sweeper's."""

    sys.argv = ["lorasweep", *search_path(), *words]
    hydra.main(version_base=None, config_path=str(conf_dir()), config_name="recipe")(task)()


def _complete(words: Sequence[str], commands: Sequence[str]) -> int:
    """Answer Hydra's completion script; commands and sweeps are ours to offer, keys and files Hydra's."""
    if "COMP_LINE" in os.environ:
        program, _, rest = os.environ["COMP_LINE"].partition(" ")
        *before, last = rest.split(" ")
        typed = [word for word in before if word]
        plain = [word for word in typed if "=" not in word and not word.startswith("-")]
        if "=" not in last and not plain and not typed:
            _offer(commands, last)
        elif "=" not in last and plain in (["sweep"], ["plan"]):
            _offer([file.stem for file in matching(sweeps_dir(), "*.yaml")], last)
        line = " ".join([program, *(word for word in typed if word not in plain), last])
        os.environ |= {"COMP_LINE": line, "COMP_POINT": str(len(line))}
    _hydra(words)
    return 0


def _offer(names: Sequence[str], begun: str) -> None:
    sys.stdout.write("".join(f"{name}\n" for name in names if name.startswith(begun)))
