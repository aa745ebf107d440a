"""The ranking of a sweep: trials by value, arms by the mean over their seeds, and what of it is noise.

Takes a `SweepState`, gives rows and leaderboard.json. Only trials that have a value are ranked; the others
are listed with the reason. Knows nothing about how values come about.
"""

from __future__ import annotations

import math
import operator
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorasweep.core.files import write_json
from lorasweep.core.records import Status, to_dict
from lorasweep.core.run_folder import LEADERBOARD_FILE, SweepFolder
from lorasweep.sweep.ranking.noise import Interval, Ranking, next_round, rank
from lorasweep.sweep.ranking.state import SweepState, TrialState, params
from lorasweep.trial.judge.score import IDENTITY, SCORE, UTILITY

# What stands beside an arm's value: heading, metric; the most telling first.
COLUMNS = (
    ("overcook", SCORE),
    ("identity", IDENTITY),
    ("control", "prompt_control/score"),
    ("drift", "prior_drift/class"),
    ("held-out", "generalisation/held_out"),
    ("burn", "burn/score"),
)
HEADLINE = (UTILITY, *(name for _, name in COLUMNS))  # what is said of a run
_LIVE = ("activity", "notes", "eta_s", "judging", "loss")  # of the moment, for the live table


@dataclass(frozen=True, kw_only=True)
class ArmRow:
    """One arm of the leaderboard."""

    rank: int | None  # from 1; None without a value
    arm: str
    overrides: tuple[str, ...]  # what sets it apart, as KEY=VALUE
    value: float | None  # mean over the seeds that have one
    spread: float | None  # sample standard deviation over seeds; None with fewer than two
    interval: Interval | None  # 95 %, of the mean; None with fewer than two seeds
    tied: bool  # with the best: repeats do not tell them apart, or there are too few
    seeds: int  # how many have a value
    metrics: Mapping[str, float]  # mean over the trials that measured it, of those that count where some do
    verdict: str  # one word per seed, the same word once
    sentence: str  # the verdict in full, of the first seed that has one and counts; and which seeds ended without
    statuses: tuple[Status, ...]
    reason: str  # why there is no value
    numbers: tuple[int, ...]  # its trials
    front: bool = False  # of several objectives: no other arm is as good in all of them and better in one

    @property
    def told(self) -> str:
        """The value, and half the width of its interval."""
        return number(self.value) + (f" ± {number(self.interval.half_width)}" if self.interval is not None else "")


def rank_arms(state: SweepState) -> list[ArmRow]:
    """Rank arms, best first; those without a value come last, in the order of the sweep."""
    arms: dict[str, list[TrialState]] = {}
    for trial in state.trials:
        arms.setdefault(trial.arm, []).append(trial)
    ranking = standing(state)
    rows = [_arm_row(arm, trials, ranking) for arm, trials in arms.items()]
    ordered = sorted(rows, key=lambda row: _order(row.value, state.goal))
    ranks, front = _ranks([row.value for row in ordered]), _front(ordered, state)
    return [
        ArmRow(**{**vars(row), "rank": rank, "front": row.arm in front})
        for row, rank in zip(ordered, ranks, strict=True)
    ]


def _front(rows: Iterable[ArmRow], state: SweepState) -> set[str]:
    """Name the ranked arms that none beats; none where there is one objective, or another was not measured."""
    points = {}
    for row in rows if state.further else ():
        measured = [(row.value, state.goal), *((row.metrics.get(name), goal) for name, goal in state.further.items())]
        known = [(value, goal) for value, goal in measured if value is not None and math.isfinite(value)]
        if len(known) == len(measured):
            points[row.arm] = tuple(value if goal == "minimize" else -value for value, goal in known)
    arms = list(points)
    return {arms[index] for index in undominated(list(points.values()))}


def columns(
    metric: str, further: Iterable[str], measured: Iterable[Mapping[str, float]], *, most: int = 2
) -> list[tuple[str, str]]:
    """Choose what stands beside values of `metric`: the other objectives, then what was measured; (heading, metric)."""
    known, rows, objectives = {name: heading for heading, name in COLUMNS}, list(measured), list(further)
    others = [name for _, name in COLUMNS if name not in (metric, *objectives) and any(name in row for row in rows)]
    names = [*objectives, *others][: max(len(objectives), most)]
    short = Counter(map(short_name, (metric, *objectives)))
    return [(known.get(name) or (name if short[short_name(name)] > 1 else short_name(name)), name) for name in names]


def short_name(metric: str) -> str:
    """Return the last part of a metric's name, as a column heading."""
    return metric.rpartition("/")[2] or "value"


def number(value: float | None) -> str:
    """Return three decimals; `-` when there is none."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.3f}"


def front_means(state: SweepState) -> str:
    """Say what it is to be on the front of several objectives."""
    goals = {state.metric: state.goal, **state.further}
    sides = ", ".join(f"{'less' if goal == 'minimize' else 'more'} {name}" for name, goal in goals.items())
    return f"no other is as good in both and better in one ({sides})"


def undominated(points: Sequence[tuple[float, ...]]) -> list[int]:
    """Return the indices of the points that no other beats, all coordinates being better when less; ascending points.

    A point is beaten by one that is at least as good in all and better in one.
    """
    front: list[tuple[float, ...]] = []
    for point in sorted(set(points)):  # what beats one comes before it, and is on the front, or beaten by what is
        if not any(all(map(operator.le, other, point)) for other in front):
            front.append(point)
    best = set(front)
    return sorted((index for index, point in enumerate(points) if point in best), key=lambda index: points[index])


def standing(state: SweepState) -> Ranking | None:
    """Return what the repeats say about the arms' order; None while no arm has a value, and where seeds say nothing."""
    values = arm_values(state) if state.seeds_tell else {}
    return rank(values, goal=state.goal, interim_looks=interim_looks(state)) if values else None


def arm_values(state: SweepState) -> dict[str, dict[int, float]]:
    """Return the values that count, by arm and seed."""
    values: dict[str, dict[int, float]] = {}
    for trial in state.trials:
        if (value := _counted(trial)) is not None:
            values.setdefault(trial.arm, {})[trial.seed] = value
    return values


def interim_looks(state: SweepState) -> int:
    """Count how often the ranking decided whether to cook repeats: once more than the most repeated arm says."""
    extra = Counter(trial.arm for trial in state.trials if trial.extra)
    return 1 + max(extra.values()) if extra else 0


def repeats_wanted(state: SweepState, *, limit: int) -> list[tuple[str, int]]:
    """Name the (arm, seed) pairs that would tell most about which arm is best; none once that is known.

    All trials have ended; an arm may have `limit` seeds beyond the declared ones.
    """
    taken: dict[str, set[int]] = {}
    allowed: Counter[str] = Counter()
    for trial in state.trials:
        taken.setdefault(trial.arm, set()).add(trial.seed)
        allowed[trial.arm] += not trial.extra
    return next_round(
        arm_values(state),
        taken,
        goal=state.goal,
        interim_looks=max(1, interim_looks(state)),
        limit={arm: declared + limit for arm, declared in allowed.items()},
    )


def standing_json(ranking: Ranking | None) -> dict[str, Any] | None:
    """Return what `status --json` and leaderboard.json say about noise."""
    if ranking is None:
        return None
    return {
        "best": ranking.order[0],
        "decided": ranking.decided,
        "tied_with_best": list(ranking.groups[0][1:]),
        "groups": [list(group) for group in ranking.groups],
        "intervals": {arm: to_dict(interval) for arm, interval in ranking.intervals.items()},
        "comparisons": [{**to_dict(each), "told_apart": each.told_apart} for each in ranking.comparisons],
    }


def rank_trials(state: SweepState) -> list[tuple[int | None, TrialState]]:
    """Rank trials, best first, as (rank, trial)."""
    ordered = sorted(state.trials, key=lambda trial: _order(_counted(trial), state.goal))
    return list(zip(_ranks([_counted(trial) for trial in ordered]), ordered, strict=True))


def best_trial(state: SweepState) -> TrialState | None:
    """Return the trial with the best value; None while none has one."""
    return next((trial for rank, trial in rank_trials(state) if rank == 1), None)


def status_json(state: SweepState) -> dict[str, Any]:
    """Build what `status --json` and `sweep --json` print; `noise` says which arms cannot be told apart."""
    folder = SweepFolder(Path(state.folder))
    trials = [
        {
            **{key: value for key, value in to_dict(trial).items() if key not in _LIVE},
            "params": params(trial.overrides),
            "reused_from": trial.reused_from or None,
        }
        for trial in state.trials
    ]
    return {
        **{key: value for key, value in vars(state).items() if key not in _LIVE},
        "total": state.total,
        "counts": state.counts,
        "noise": standing_json(standing(state)),
        "front": [row.arm for row in rank_arms(state) if row.front],
        "left_out": dict(state.left_out),
        "pruning": folder.pruning or None,
        "timing": folder.timing or None,
        "trials": trials,
    }


def document(state: SweepState) -> dict[str, Any]:
    """Return the content of leaderboard.json."""
    trials = [
        {
            "rank": rank,
            "number": trial.number,
            "arm": trial.arm,
            "seed": trial.seed,
            "status": trial.status.value,
            "value": _counted(trial),
            "metrics": dict(trial.metrics),
            "verdict": dict(trial.verdict),
            "reason": trial.reason,
            "run_folder": Path(trial.run_folder).name,
        }
        for rank, trial in rank_trials(state)
    ]
    return {
        "name": state.name,
        "metric": state.metric,
        "goal": state.goal,
        "noise": standing_json(standing(state)),
        "left_out": dict(state.left_out),
        "arms": [to_dict(row) for row in rank_arms(state)],
        "trials": trials,
    }


def write(sweep_folder: Path, state: SweepState) -> None:
    """Write leaderboard.json."""
    write_json(sweep_folder / LEADERBOARD_FILE, document(state))


def _arm_row(arm: str, trials: list[TrialState], ranking: Ranking | None) -> ArmRow:
    counted = [trial for trial in trials if _counted(trial) is not None]
    ended = [trial for trial in trials if trial.status.is_final]
    values = [value for trial in trials if (value := _counted(trial)) is not None]
    said = next((str(t.verdict["sentence"]) for t in counted or trials if t.verdict.get("sentence")), "")
    verdicts = dict.fromkeys(str(trial.verdict["state"]) for trial in trials if trial.verdict.get("state"))
    reasons = dict.fromkeys(trial.reason for trial in trials if trial.reason)
    return ArmRow(
        rank=None,
        arm=arm,
        overrides=trials[0].overrides,
        value=statistics.fmean(values) if values else None,
        spread=statistics.stdev(values) if len(values) > 1 else None,
        interval=ranking.intervals.get(arm) if ranking is not None else None,
        tied=ranking is not None and arm in ranking.groups[0][1:],
        seeds=len(values),
        metrics=_means(trial.metrics for trial in counted or ended),
        verdict=" / ".join(verdicts),
        sentence=" ".join(filter(None, (said, _uncounted(ended, counted)))),
        statuses=tuple(trial.status for trial in trials),
        reason="; ".join(reasons),
        numbers=tuple(trial.number for trial in trials),
    )


def _uncounted(ended: list[TrialState], counted: list[TrialState]) -> str:
    """Tell which seeds an arm's value says nothing of, though others have one: it looks better without."""
    without = [trial for trial in ended if trial not in counted] if counted else []
    whys = dict.fromkeys(trial.reason or trial.status.spoken for trial in without)
    return f"{len(without)} of {len(ended)} seeds not counted: {'; '.join(whys)}." if without else ""


def _means(metrics: Iterable[Mapping[str, float]]) -> dict[str, float]:
    collected: dict[str, list[float]] = {}
    for measured in metrics:
        for name, value in measured.items():
            collected.setdefault(name, []).append(value)
    return {name: statistics.fmean(values) for name, values in collected.items()}


def _counted(trial: TrialState) -> float | None:
    """Tell whether a value counts: once its trial has run its course, and keeps the sweep's bounds.

    That of a pruned one was measured too early.
    """
    return trial.value if trial.status is Status.COMPLETED and not trial.broken else None


def _order(value: float | None, goal: str) -> tuple[bool, float]:
    if value is None:
        return True, 0.0
    return False, value if goal == "minimize" else -value


def _ranks(values: Iterable[float | None]) -> list[int | None]:
    """Return competition ranks (1, 2, 2, 4) of values in order; None stays None."""
    ranks: list[int | None] = []
    previous: float | None = None
    for place, value in enumerate(values, start=1):
        if value is None:
            ranks.append(None)
        else:
            ranks.append(ranks[-1] if ranks and value == previous else place)
            previous = value
    return ranks
