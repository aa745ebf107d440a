"""One person rating: the pair that is asked, answers to it, when it is enough.

All of it follows from the file of answers, read anew every time under a lock: two tabs, or two servers, are
asked the same pair, the first answer to it counts, and a server that was killed goes on where it was.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from lorasweep.core.run_folder import ratings_file
from lorasweep.results.rate.pairs import Contest, Pair, next_pair
from lorasweep.results.ratings import Answer, Book, read_book, strengths, write_answer
from lorasweep.results.report.gallery import Picture

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
        """Why no more is asked; empty while something is."""
        return self._why_over(read_book(self.file))

    def asked(self) -> dict[str, Any]:
        """What the page shows: two pictures of a prompt and what the pair is called, or why it is over."""
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
        """What the pair is called that is asked after so many lines; no two have one name, an undone one neither."""
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
    """A picture as text: its pixels and nothing else that could tell whose it is; empty when it cannot be read."""
    pixels, written = picture.open(), io.BytesIO()
    if pixels is None:
        return ""
    pixels.save(written, "PNG")
    return "data:image/png;base64," + base64.b64encode(written.getvalue()).decode()
