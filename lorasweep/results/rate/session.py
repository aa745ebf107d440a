"""What can be compared by eye, which pair of pictures tells most, and one person's answers.

    run folders  ->  Contest: items, and questions that several of them answered with a picture

Pictures are of one question when they were drawn for one prompt from one noise, at the weight that is judged,
and, of arms, with one training seed. All of a session follows from the file of answers, read anew every time under a
lock: two tabs, or two servers, are asked the same pair, the first answer to it counts, and a server that was killed
goes on where it was. Knows nothing about browsers.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from lorasweep.core import seeds
from lorasweep.core.errors import InputError, Problem
from lorasweep.core.run_folder import RunFolder, ratings_file
from lorasweep.data import captions
from lorasweep.results.ratings import Answer, Book, Shown, read_book, strengths, write_answer
from lorasweep.results.report import gallery
from lorasweep.results.report.gallery import Picture
from lorasweep.results.report.reading import TrialFindings, read_findings


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A picture that may be shown, and whose it is."""

    shown: Shown
    picture: Picture


@dataclass(frozen=True, kw_only=True)
class Question:
    """What was asked of several items: a prompt, with one's trigger as `<trigger>` where they differ, and a noise."""

    prompt: str
    seed: int
    candidates: Mapping[str, Candidate]  # by item


@dataclass(frozen=True, kw_only=True)
class Contest:
    """What is rated: the arms of a sweep, or the steps of a run."""

    folder: Path
    items: tuple[str, ...]
    questions: tuple[Question, ...]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A question and who answers it, on which side."""

    question: Question
    left: Candidate
    right: Candidate


def contest(folder: Path) -> Contest:
    """Find what can be compared of a sweep's arms, or of a run's steps.

    Raises:
        InputError: there are no two with pictures of one prompt and noise.
    """
    is_run = RunFolder(folder).exists
    findings = read_findings(folder.parent if is_run else folder)
    found: dict[tuple[object, ...], dict[str, tuple[Candidate, str]]] = {}
    if is_run:
        drawn = (_of_steps(trial) for trial in findings.trials if trial.name == folder.name)
    else:
        arms = gallery.worth_showing(findings)
        drawn = (_of_arm(trial) for arm in arms for trial in findings.of_arm(arm.state.arm))
    for candidate, prompt, training_seed in itertools.chain.from_iterable(drawn):
        if gallery.is_shown(candidate.picture.key):
            key = (training_seed, *candidate.picture.key, prompt)
            found.setdefault(key, {})[candidate.shown.item] = candidate, prompt
    questions = [_question(answered) for answered in found.values() if len(answered) > 1]
    items = dict.fromkeys(item for question in questions for item in question.candidates)
    if not items:
        what = "steps" if is_run else "arms"
        hint = "lorasweep status tells how far it is; the steps of one run: lorasweep rate SWEEP/TRIAL"
        message = f"has no two {what} with pictures of one prompt and noise"
        raise InputError(Problem(folder.name, message, hint), subject="rate")
    return Contest(folder=folder, items=tuple(items), questions=tuple(questions))


def next_pair(asked: Contest, answers: tuple[Answer, ...], *, rater: str) -> Pair:
    """Choose what to ask: the same whenever the same was answered before.

    Every prompt comes once before any comes again; of those who answered it, the two of whom most is learned,
    and of two equally telling pairs either.
    """
    chance = random.Random(seeds.derive(0, "rate", rater, len(answers)))
    prompts = Counter(answer.prompt for answer in answers)
    noises = Counter((answer.prompt, answer.seed) for answer in answers)
    before = Counter(frozenset((answer.prompt, answer.seed, answer.left, answer.right)) for answer in answers)
    question = min(
        asked.questions, key=lambda each: (prompts[each.prompt], noises[each.prompt, each.seed], chance.random())
    )
    fitted = strengths(answers, asked.items)

    def worth(pair: tuple[str, str]) -> tuple[float, ...]:
        one, other = (question.candidates[item].shown for item in pair)
        times = before[frozenset((question.prompt, question.seed, one, other))]
        return -times, fitted.information(*pair), chance.random()

    pair = [question.candidates[item] for item in max(itertools.combinations(question.candidates, 2), key=worth)]
    chance.shuffle(pair)
    return Pair(question=question, left=pair[0], right=pair[1])


def _of_arm(trial: TrialFindings) -> Iterator[tuple[Candidate, str, int]]:
    """Return an arm's pictures of the checkpoint that is kept, with their prompts in general and the training seed."""
    for picture in gallery.as_judged(trial):
        shown = Shown(item=trial.state.arm, run=trial.name, step=picture.step)
        prompt = captions.replace_trigger(picture.prompt, trial.trigger, gallery.TRIGGER)
        yield Candidate(shown=shown, picture=picture), prompt, trial.state.seed


def _of_steps(trial: TrialFindings) -> Iterator[tuple[Candidate, str, int]]:
    """Return a run's pictures at every step."""
    for picture in gallery.of_run(trial.run):
        if picture.weight == trial.weight:
            shown = Shown(item=f"step {picture.step}", run=trial.name, step=picture.step)
            yield Candidate(shown=shown, picture=picture), picture.prompt, 0


def _question(answered: Mapping[str, tuple[Candidate, str]]) -> Question:
    candidates = {item: candidate for item, (candidate, _) in answered.items()}
    [picture, *others] = [candidate.picture for candidate in candidates.values()]
    is_one = all(other.prompt == picture.prompt for other in others)
    general = next(prompt for _, prompt in answered.values())
    return Question(prompt=picture.prompt if is_one else general, seed=picture.seed, candidates=candidates)


UNDO = "undo"


@dataclass(frozen=True, kw_only=True)
class Session:
    """One person's rating of a contest; `most` is how many answers are enough."""

    contest: Contest
    rater: str
    most: int

    @property
    def file(self) -> Path:
        """Where the answers are."""
        return ratings_file(self.contest.folder, self.rater)

    def why_over(self) -> str:
        """Tell why no more is asked; empty while something is."""
        return self._why_over(read_book(self.file))

    def asked(self) -> dict[str, Any]:
        """Tell what the page shows: two pictures of a prompt and what the pair is called, or why it is over."""
        book = read_book(self.file)
        told = {"pair": self._name(book), "answered": len(book.answers), "most": self.most}
        if over := self._why_over(book):
            return {**told, "over": over}
        pair = self._pair(book)
        return {
            **told,
            "prompt": pair.question.prompt,
            "left": _png(pair.left.picture),
            "right": _png(pair.right.picture),
        }

    def take(self, pair: str, answer: str) -> bool:
        """Keep an answer to the pair that is asked, or undo the last one; returns False for a pair answered already."""
        with self._locked() as book:
            if pair != self._name(book):
                return False
            if answer == UNDO:
                if book.answers:
                    write_answer(self.file, book.answers[-1], undo=True)
            elif not self._why_over(book):
                asked = self._pair(book)
                write_answer(
                    self.file,
                    Answer(
                        pair=pair,
                        answer=answer,
                        left=asked.left.shown,
                        right=asked.right.shown,
                        prompt=asked.question.prompt,
                        seed=asked.question.seed,
                    ),
                )
        return True

    def _pair(self, book: Book) -> Pair:
        return next_pair(self.contest, book.answers, rater=self.rater)

    def _name(self, book: Book) -> str:
        """Name the pair that is asked after so many lines; no two have one name, an undone one neither."""
        return hashlib.sha256(f"{self.contest.folder.name}/{self.rater}/{book.lines}".encode()).hexdigest()[:16]

    def _why_over(self, book: Book) -> str:
        if len(book.answers) >= self.most:
            return f"{len(book.answers)} pairs are answered"
        settled = book.answers and strengths(book.answers, self.contest.items).settled
        return "the ranks are settled" if settled else ""

    @contextmanager
    def _locked(self) -> Iterator[Book]:
        self.file.parent.mkdir(exist_ok=True)
        with FileLock(self.file.with_suffix(".lock")):
            yield read_book(self.file)


def _png(picture: Picture) -> str:
    """Return a picture's pixels as text, and nothing that tells whose it is; empty when it cannot be read."""
    pixels = picture.open()
    return "" if pixels is None else gallery.as_uri(pixels, "png")
