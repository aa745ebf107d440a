"""Command line of the benchmark; see the package.

python -m benchmarks.overcooking run --home DIR [--processes 4] [--budget 60m] [--steps 320] [--rungs 8]
python -m benchmarks.overcooking report --home DIR [--page docs/overcooking.md]
python -m benchmarks.overcooking rejudge --home DIR --into OTHER [--as-files] [KEY=VALUE ...]
python -m benchmarks.overcooking compare --home DIR --other OTHER
python -m benchmarks.overcooking beside --home DIR [OTHER ...]
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pydantic_core

from benchmarks.overcooking import analysis, controls, cooking, grid, page, rejudging, table
from benchmarks.overcooking.witness import Counts
from lorasweep.core import files
from lorasweep.core.errors import InputError, Problem
from lorasweep.core.records import to_dict

PAGE = Path("docs/overcooking.md")
CONTROLS_AFTER = 8  # runs of the grid that come before the others: a first answer first


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    home = options.home.expanduser().resolve()
    os.environ["LORASWEEP_HOME"] = str(home)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        options.command(options, home)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _run(options: argparse.Namespace, home: Path) -> None:
    """Cook what is not cooked yet, until the grid or the budget is done."""
    began = time.time()
    asked = {name: getattr(options, name) for name in ("steps", "rungs", "base", "lr_times")}
    setting = grid.Setting(**asked, identities=grid.IDENTITIES[options.identities])
    counts = Counts(**{name: getattr(options, name) for name in asdict(Counts())})
    _settle(home, options, setting, counts)
    planned = grid.runs(setting=setting)
    others = [*controls.runs(home, setting=setting), *controls.copying_runs(home, setting=setting)]
    ordered = [*planned[:CONTROLS_AFTER], *others, *planned[CONTROLS_AFTER:]]
    ordered = [item for item in ordered if re.search(options.only, item.name)]
    until = began + options.budget
    for line in cooking.cook_all(ordered, home, processes=options.processes, until=until, counts=counts):
        print(f"{(time.time() - began) / 60:5.1f} min  {line}", flush=True)
    left = sum(cooking.status_of(home / "runs" / item.name) not in cooking.FINAL for item in ordered)
    print(f"{left} of {len(ordered)} runs are left{'; the same command goes on' if left else ''}")


def _settle(home: Path, options: argparse.Namespace, setting: grid.Setting, counts: Counts) -> None:
    """Write the settings down, or refuse those, or other pictures, that another call in this home contradicts."""
    fixed = to_dict(setting) | {"counts": asdict(counts)}
    path = home / table.SETTINGS
    before = table.settings(home) if path.exists() else fixed
    if differ := [name for name, value in fixed.items() if before[name] != value]:
        message = f"was begun with other {', '.join(differ)}: {[before[name] for name in differ]}"
        raise InputError(Problem(str(home), message, "use the same, or another --home"), subject="--home")
    per_rung = sum(asdict(counts).values()) - counts.replicas
    how = {"processes": options.processes, "budget": f"{options.budget / 60:g}m", "pictures": per_rung}
    files.write_json(path, fixed | how)


def _report(options: argparse.Namespace, home: Path) -> None:
    """Answer every question from what is there: write the figures and the page, print the headline."""
    from benchmarks.overcooking import figures

    checkpoints, found = _analysed(home)
    found["facts"] = page.gather_facts(home, checkpoints)
    files.write_text(home / "analysis.json", pydantic_core.to_json(found, indent=1, inf_nan_mode="null").decode())
    folder = options.page.parent / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    figures.bars(found, folder / "overcooking_areas.png")
    figures.regrets(found, folder / "overcooking_regret.png")
    chosen = figures.choose(list(table.by_run(checkpoints).values()))
    caption = "" if chosen is None else figures.story(chosen, home, folder / "overcooking_story.png")
    files.write_text(options.page, page.write(found, pictures="pictures", story=caption))
    for name in [name for name in found["auroc"] if name.startswith("O")]:
        print(f"area    {page.span(found['auroc'][name], 3)}  {name}")
    for name, row in found["stopping"]["stoppers"].items():
        print(f"regret  {page.span(row['regret'], 3)}  {name}")
    print(f"wrote {options.page} and its figures in {folder}")


def _rejudge(options: argparse.Namespace, home: Path) -> None:
    """Judge the checkpoints of a home otherwise."""
    for name in rejudging.rejudge(home, options.into, options.overrides, only=options.only, as_files=options.as_files):
        print(name, flush=True)


def _compare(options: argparse.Namespace, home: Path) -> None:
    """Print what another way of judging costs in truth."""
    found = rejudging.compare(home, options.other)
    for name, value in found.items():
        rows = value if isinstance(value, list) else [value]
        print(f"{name:14s}", *(page.span(row, 3) if isinstance(row, dict) else row for row in rows), sep="  ")


def _beside(options: argparse.Namespace, home: Path) -> None:
    """Print one table of homes."""
    homes = [home, *options.others]
    print(page.beside({each.name: page.column(table.setting(each), _analysed(each)[1]) for each in homes}), end="")


def _analysed(home: Path) -> tuple[list[table.Checkpoint], dict[str, Any]]:
    if not (checkpoints := table.load(home)):
        raise InputError(Problem(str(home), "holds no judged checkpoint", "`run` comes first"), subject="--home")
    of_controls, copying = (table.load(home, kind) for kind in (table.CONTROL, table.COPYING))
    return checkpoints, analysis.analyse(checkpoints, of_controls=of_controls, copying=copying)


def _parser() -> argparse.ArgumentParser:
    description = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overcooking", description=description)
    commands = parser.add_subparsers(required=True)

    def command(name: str, does: Callable[[argparse.Namespace, Path], None], words: str) -> Callable[..., Any]:
        made = commands.add_parser(name, help=words)
        made.set_defaults(command=does)
        made.add_argument("--home", type=Path, required=True, help="folder of the runs")
        return made.add_argument

    only = {"default": "", "help": "regular expression that the names of runs must match"}
    add = command("run", _run, "cook the grid, or go on with it")
    add("--processes", type=int, default=os.cpu_count() or 1)
    add("--budget", type=duration, default=duration("8h"), help="wall time: 90s, 60m, 2h")
    add("--steps", type=int, default=grid.Setting.steps)
    add("--rungs", type=int, default=grid.Setting.rungs)
    add("--base", choices=grid.SAMPLING, default=grid.Setting.base)
    add("--lr-times", type=float, default=grid.Setting.lr_times, help="of every learning rate")
    add("--identities", choices=grid.IDENTITIES, default="by_hand")
    add("--only", **only)
    for name, count in asdict(Counts()).items():
        add(f"--{name}", type=int, default=count, help=f"pictures of the witness: {name}")
    add = command("report", _report, "write the page and its figures")
    add("--page", type=Path, default=PAGE)
    add = command("rejudge", _rejudge, "judge the checkpoints of a home otherwise")
    add("--into", type=Path, required=True, help="folder of the judgements")
    add("--as-files", action="store_true", help="as `judge` does what `export` writes, in fp16")
    add("--only", **only)
    add("overrides", nargs="*", help="KEY=VALUE, on top of the product's own sampling and metrics")
    add = command("compare", _compare, "what another way of judging costs in truth")
    add("--other", type=Path, required=True, help="folder of the other judgements")
    add = command("beside", _beside, "one table of homes: other bases, other identities")
    add("others", nargs="*", type=Path, help="folders of the other runs")
    return parser


def duration(text: str) -> float:
    """Seconds of `90s`, `60m` or `2h`; minutes when there is no unit. Anything else is an ArgumentTypeError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"must be like 90s, 60m or 2h, got {text!r}")
    return float(match[1]) * {"s": 1, "m": 60, "": 60, "h": 3600}[match[2]]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
