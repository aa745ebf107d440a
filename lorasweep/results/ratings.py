"""What people said of pictures without knowing whose they are: the record, the ranks, and whether the score agrees.

    <sweep or run>/ratings/NAME.jsonl  ->  Book of answers  ->  Rated

A sweep's items are its arms, a run's its steps. An answer is a line; undoing one is a line too, so that nothing
written is ever changed, and a kill tears the last line at most, which is not counted. Knows nothing about how
pictures are shown.
"""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from lorasweep.core import files
from lorasweep.core.run_folder import RunFolder, SweepFolder, raters, ratings_file
from lorasweep.plan.symptoms import SYMPTOMS
from lorasweep.results import preference
from lorasweep.results.preference import ANSWERS, Z95, Strengths
from lorasweep.sweep.ranking.state import read_state
from lorasweep.trial.judge import score

Judged = Mapping[tuple[str, int], Mapping[str, float]]  # run and step -> metrics
SAME = 0.005  # scores that differ by less look the same, and say nothing about which picture is better


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Whose picture stood on one side."""

    item: str
    run: str  # name of its run folder
    step: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What was said of two pictures of one prompt and noise; `pair` is what the page called them."""

    pair: str
    answer: Annotated[str, Field(pattern=f"^({'|'.join(ANSWERS)})$")]
    left: Shown
    right: Shown
    prompt: str
    seed: int


_ANSWER = TypeAdapter(Answer)


@dataclass(frozen=True, kw_only=True)
class Book:
    """A file of answers as it was read: those that stand, the oldest first; its lines, and those that are torn."""

    answers: tuple[Answer, ...] = ()
    lines: int = 0
    unread: int = 0
    time_ms: int = 0  # Unix time of its last change


@dataclass(frozen=True, kw_only=True)
class Standing:
    """An arm or a step in a person's eye.

    Attributes:
        won, lost, tied, both_bad: how often.
    """

    item: str
    strength: float  # log odds of being preferred to the average of all; `low` and `high` are its 95 % interval
    low: float
    high: float
    won: int
    lost: int
    tied: int
    both_bad: int
    ruined: bool  # more likely to be called bad, both of a pair, than to be chosen


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Whether a number that lorasweep measured says what the person said; intervals are 95 %.

    Attributes:
        share_low, share_high: Wilson's interval: it speaks of this person, these items and prompts.
        tau_low, tau_high: over what the strengths may be.
    """

    metric: str  # its name; of a symptom, less is taken to be better
    share: float  # of the `decided` pairs, those with a better picture and a number that differs, in which it agrees
    share_low: float
    share_high: float
    decided: int
    tau: float  # Kendall's, between the items' strengths and their mean numbers
    tau_low: float
    tau_high: float


@dataclass(frozen=True, kw_only=True)
class Rated:
    """What came of one person's answers about a sweep's arms, or a run's steps; the best first."""

    name: str  # of the sweep or the run
    rater: str
    answers: int
    lines: int  # of the file, those of undone answers too: it only grows
    unread: int
    time_ms: int  # when the last one was given
    settled: bool  # every rank is told from the next
    standings: tuple[Standing, ...]
    agreements: tuple[Agreement, ...]  # of the utility, then of each symptom


def read_book(file: Path) -> Book:
    """Read the answers of one person; an absent file is an empty one."""
    if not file.exists():
        return Book()
    answers: list[Answer] = []
    lines = [line for line in file.read_bytes().splitlines() if line.strip()]
    read = 0
    for row in files.read_jsonl(file):
        with suppress(ValidationError):
            if "undo" in row:
                answers = answers[:-1]
            else:
                answers.append(_ANSWER.validate_python(row))
            read += 1
    time_ms = file.stat().st_mtime_ns // 10**6
    return Book(answers=tuple(answers), lines=len(lines), unread=len(lines) - read, time_ms=time_ms)


def write_answer(file: Path, answer: Answer, *, undo: bool = False) -> None:
    """Keep an answer, or that it does not stand; it is on the disk before this returns."""
    file.parent.mkdir(exist_ok=True)
    row = {"undo": answer.pair} if undo else asdict(answer)
    files.append_jsonl(file, {**row, "time": time.time()}, durable=True)


def read_rated(folder: Path) -> list[Rated]:
    """Tell what everybody said of a sweep's arms, or of a run's steps."""
    books = {rater: read_book(ratings_file(folder, rater)) for rater in raters(folder)}
    if not any(book.answers for book in books.values()):
        return []
    judged, run = _judged(folder), RunFolder(folder)
    name = run.name if run.exists else folder.name
    return [_rated(name, judged, rater, book) for rater, book in books.items() if book.answers]


@dataclass(frozen=True, kw_only=True)
class Labels:
    """The rungs that a person was shown, by what they called them: rows of metrics.json by arm or step."""

    runs: tuple[RunFolder, ...]
    harmless: dict[str, list[Mapping[str, Any]]]
    ruined: dict[str, list[Mapping[str, Any]]]


def read_labels(folder: Path, rater: str) -> Labels:
    """Read what a person called ruined, and what not; the strongest first."""
    answers = read_book(ratings_file(folder, rater)).answers
    fitted = strengths(answers)
    runs = {run.path.name: run for run in _runs(folder)}
    shown = {side for answer in answers for side in (answer.left, answer.right) if side.run in runs}
    labels = Labels(runs=tuple(runs[name] for name in sorted({each.run for each in shown})), harmless={}, ruined={})
    rungs = {(run.path.name, rung["step"]): rung for run in labels.runs for rung in run.result.get("rungs", ())}
    for item in fitted.order:
        rows = [rungs[each.run, each.step] for each in shown if each.item == item and (each.run, each.step) in rungs]
        if rows:
            (labels.ruined if fitted.is_ruined(item) else labels.harmless)[item] = rows
    return labels


@functools.lru_cache(maxsize=4)  # a session asks for the same again and again until there is another answer
def strengths(answers: tuple[Answer, ...], items: tuple[str, ...] = ()) -> Strengths:
    """Fit the items that were shown, and those named besides."""
    choices = [(answer.left.item, answer.right.item, answer.answer) for answer in answers]
    shown = (item for left, right, _ in choices for item in (left, right))
    return preference.fit(tuple(dict.fromkeys([*items, *shown])), choices)


def _runs(folder: Path) -> list[RunFolder]:
    """Return the runs that are rated: one by its steps, or those of a sweep."""
    return [RunFolder(folder)] if RunFolder(folder).exists else SweepFolder(folder).runs


def _judged(folder: Path) -> Judged:
    """Return what was measured at each checkpoint, over the symptoms that all trials of a sweep have."""
    left_out = {} if RunFolder(folder).exists else read_state(folder).left_out
    return {
        (run.path.name, step): score.without(metrics, left_out)
        for run in _runs(folder)
        for step, metrics in _by_step(run).items()
    }


def _by_step(run: RunFolder) -> dict[int, Mapping[str, float]]:
    result = run.result
    found = {rung["step"]: rung["metrics"] for rung in result.get("rungs") or run.rungs()}
    return found | ({result["step"]: result["metrics"]} if "step" in result else {})


def _rated(name: str, judged: Judged, rater: str, book: Book) -> Rated:
    fitted = strengths(book.answers)
    metrics = [(score.UTILITY, 1), *((f"overcook/{symptom.name}", -1) for symptom in SYMPTOMS)]
    agreements = (_agreement(judged, book.answers, fitted, metric, sign) for metric, sign in metrics)
    return Rated(
        name=name,
        rater=rater,
        answers=len(book.answers),
        lines=book.lines,
        unread=book.unread,
        time_ms=book.time_ms,
        settled=fitted.settled,
        standings=tuple(_standing(item, fitted, book.answers) for item in fitted.order),
        agreements=tuple(found for found in agreements if found),
    )


def _standing(item: str, fitted: Strengths, answers: Sequence[Answer]) -> Standing:
    mean, error = fitted.against_average(item)
    counted = Counter(
        _outcome(answer, side)
        for answer in answers
        for side, shown in (("left", answer.left), ("right", answer.right))
        if shown.item == item
    )
    return Standing(
        item=item,
        strength=mean,
        low=mean - Z95 * error,
        high=mean + Z95 * error,
        won=counted["won"],
        lost=counted["lost"],
        tied=counted["tie"],
        both_bad=counted["both_bad"],
        ruined=fitted.is_ruined(item),
    )


def _outcome(answer: Answer, side: str) -> str:
    """Return what an answer says of the picture on one side."""
    if answer.answer in ("left", "right"):
        return "won" if answer.answer == side else "lost"
    return answer.answer


def _agreement(
    judged: Judged, answers: Sequence[Answer], fitted: Strengths, metric: str, sign: int
) -> Agreement | None:
    """Compare a number with what was said; None where it never differs, or was not measured."""
    of_item: dict[str, list[float]] = {}
    agreed = decided = 0
    for answer in answers:
        both = [judged.get((each.run, each.step), {}).get(metric) for each in (answer.left, answer.right)]
        if None in both:
            continue
        left, right = (sign * value for value in both if value is not None)
        of_item.setdefault(answer.left.item, []).append(left)
        of_item.setdefault(answer.right.item, []).append(right)
        if answer.answer in ("left", "right") and abs(left - right) >= SAME:
            decided += 1
            agreed += (left > right) == (answer.answer == "left")
    tau = fitted.rank_correlation({item: fmean(values) for item, values in of_item.items()}, same=SAME)
    if not decided or tau is None:
        return None
    low, high = preference.share_interval(agreed, decided)
    return Agreement(
        metric=metric,
        share=agreed / decided,
        share_low=low,
        share_high=high,
        decided=decided,
        tau=tau[0],
        tau_low=tau[1],
        tau_high=tau[2],
    )
