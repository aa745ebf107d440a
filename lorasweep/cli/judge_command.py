"""`lorasweep judge`: LoRA files judged as checkpoints of a training are, and compared when there are several arms."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lorasweep import api
from lorasweep.cli import sweep_command, train_command
from lorasweep.config import SweepSpec
from lorasweep.config.sweep_spec import Constraint
from lorasweep.core.records import Plan
from lorasweep.core.run_folder import SHEET_FILE
from lorasweep.results.handles import EndedRun, Run
from lorasweep.sweep import judge_files

NOT_KEPT = 3


def run(options: argparse.Namespace) -> int:
    """Judge and show what came out; returns 3 when a requirement is not kept, else as `train` and `sweep` do."""
    required = judge_files.requirements(options.require)
    asked, plans = judge_files.planned(judge_files.question(options.overrides, steps=options.steps), required)
    if len(asked.arms) > 1:
        code = sweep_command.run_spec(asked, as_json=options.json)
        judged: Sequence[Run] = api.open_sweep(asked.name).trials
    else:
        one = _judge_one(asked, plans, as_json=options.json)
        code, judged = train_command.exit_code(one.ended), [one]
    if code:
        return code
    broken = list(_broken(judged, required))
    for text in broken:
        print(f"not kept    {text}", file=sys.stderr)
    return NOT_KEPT if broken else 0


def _judge_one(asked: SweepSpec, plans: Mapping[str, Plan], *, as_json: bool) -> EndedRun:
    (planned,) = plans.values()
    train_command.print_warnings(planned.warnings)
    judged = api.judge(asked=asked, plans=plans, quiet=as_json)
    assert isinstance(judged, EndedRun), "one arm makes one run"
    if as_json:
        files = {key: value for key, value in _files(judged).items() if value}
        print(json.dumps({**train_command.result_json(judged), **files}, indent=1))
        return judged
    train_command.print_result(judged)
    for what, file in _files(judged).items():
        if file:
            print(f"{what:<11} {file}")
    if (sheet := judged.folder / SHEET_FILE).exists():
        print(f"sheet       {sheet}")
    return judged


def _files(judged: Run) -> dict[str, str | None]:
    """The files that the verdict's steps stand for."""
    options = judged.recipe.adapter.options
    by_step: dict[Any, str] = dict(zip(options["steps"], options["paths"], strict=True))
    return {f"{what} file": by_step.get(judged.verdict.get(f"{what}_at")) for what in ("done", "burned")}


def _broken(judged: Sequence[Run], required: Sequence[Constraint]) -> Iterator[str]:
    """Bounds that the kept file of a run does not keep; what is not measured keeps none."""
    for each in judged:
        for bound in required:
            value = each.metrics.get(bound.metric)
            if value is None:
                why = each.missing.get(bound.metric, "not measured")
                yield f"{each.name}: {bound}, and it is missing: {why}"
            elif bound.violation(value) > 0:
                yield f"{each.name}: {bound}, got {value:.3f}"
