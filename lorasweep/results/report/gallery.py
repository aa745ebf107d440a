"""The pictures of a report: arms against prompts, and each arm over its steps and weights.

    run folder  ->  Pictures by step, weight, place among the prompts, found through the indexes that sampling left
    Findings    ->  Sheets of pictures, the base model first
    Picture     ->  a data URI

Two pictures stand side by side when they were drawn at the same place of the same tier and from the same
seed. Their prompts may differ all the same: an arm may train another trigger. The words above say so. Needs Pillow,
not torch. Knows nothing about HTML, charts or numbers beyond the labels.
"""

from __future__ import annotations

import base64
import functools
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from lorasweep.core.errors import DatasetError
from lorasweep.core.run_folder import BASE_SAMPLES, NO_INDEX, RunFolder, pictures_in, steps_in
from lorasweep.data import captions
from lorasweep.data.images import open_rgb
from lorasweep.results.report.reading import Findings, TrialFindings
from lorasweep.results.report.words import score_line

SHEET_ARMS = 16  # more make a page too heavy for a phone; the best and the last are kept
LAST_ARMS = 4
LADDERS = 6
TRIGGER = "<trigger>"
STRANGERS_SHOWN = 2  # there are more so that their mean can be trusted
OTHERS_DIFFER = "(other arms: other words)"
SIDE_PX = 320  # larger pictures are scaled down to it
TIER_NAMES = {
    "in_distribution": "as trained",
    "recombined": "recombined",
    "class": "no trigger",
    "unrelated": "unrelated",
}
_LOSSLESS_TO_PX = 96  # small pictures are kept to the pixel

Key = tuple[str, int, int]  # tier, place within the tier, seed


@dataclass(frozen=True, kw_only=True)
class Heading:
    """Of a row or a column; `class_` is for the style sheet."""

    name: str
    below: str = ""
    verdict: str = ""
    class_: str = ""

    @property
    def text(self) -> str:
        """In lines, for a sheet that is one picture."""
        return "\n".join(filter(None, (self.name, self.below, self.verdict)))


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A table of pictures; None where one is missing. `left_out` more arms are not shown."""

    columns: Sequence[Heading]
    rows: Sequence[tuple[Heading, Sequence[Picture | None]]]
    left_out: int = 0


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One arm's row of a sheet."""

    pictures: Mapping[Key, Picture]
    trigger: str | None  # in the arm's prompts; None: there is none, or it is not known


def worth_showing(findings: Findings) -> list[TrialFindings]:
    """Return the best arms, and the last of those that have a value: what went wrong is worth seeing too."""
    ranked = sum(row.value is not None for row in findings.arms)  # they come first
    if ranked > SHEET_ARMS:
        return findings.shown[: SHEET_ARMS - LAST_ARMS] + findings.shown[ranked - LAST_ARMS : ranked]
    return findings.shown[:SHEET_ARMS]


def contact_sheet(findings: Findings, shown: Sequence[TrialFindings]) -> Sheet | None:
    """Return trials of several arms at the judged weight against the prompts, the base model as first row."""
    base = {picture.key: picture for picture in first_seed(of_base(findings.folder))}
    kept = ((trial, first_seed(as_judged(trial))) for trial in shown)
    trials = [(trial, {picture.key: picture for picture in pictures}) for trial, pictures in kept if pictures]
    arms = [Drawn(pictures=pictures, trigger=trial.trigger) for trial, pictures in trials]
    keys = shared(base or (arms[0].pictures if arms else {}), arms)
    if not keys:
        return None
    rows = [(Heading(name="base model", below="no LoRA"), base)] if base else []
    for trial, pictures in trials:
        name, verdict = trial.state.arm, trial.verdict
        rows.append((Heading(name=name, below=score_line(trial), verdict=verdict), pictures))
    return Sheet(
        columns=[_tier_heading(key[0], heading(key, arms)) for key in keys],
        rows=[(row, [pictures.get(key) for key in keys]) for row, pictures in rows],
        left_out=len(findings.arms) - len(arms),
    )


def ladders(findings: Findings) -> list[tuple[TrialFindings, Sheet]]:
    """Return the best arms over their steps at the judged weight, and over the weights at the step that is kept."""
    base = {picture.key: picture for picture in first_seed(of_base(findings.folder))}
    drawn = [(trial, of_run(trial.run)) for trial in worth_showing(findings)[:LADDERS]]
    return [(trial, _ladder(trial, pictures, base)) for trial, pictures in drawn if pictures]


def shared(first: Mapping[Key, Picture], arms: Sequence[Drawn]) -> list[Key]:
    """Return the columns: what the first row has and any arm has, in the first row's order; of strangers a few."""
    return [key for key in first if is_shown(key) and any(key in arm.pictures for arm in arms)]


def is_shown(key: Key) -> bool:
    """Tell whether people are shown pictures of a prompt."""
    return key[0] != "class" or key[1] < STRANGERS_SHOWN


def as_judged(trial: TrialFindings) -> list[Picture]:
    """Return a trial's pictures at the judged weight, of the checkpoint that it keeps, or else of its latest."""
    judged = [trial.judged.step] if trial.judged else []
    for step in (*judged, *reversed(steps_in(trial.run.samples()))):
        if drawn := [picture for picture in of_step(trial.run, step) if picture.weight == trial.weight]:
            return drawn
    return []


def heading(key: Key, arms: Sequence[Drawn]) -> str:
    """Return the prompt of a column.

    Where arms differ in the trigger alone it reads `<trigger>, 1girl, beach`; where they differ in more it is
    the first arm's prompt, and says that the others have other words.
    """
    there = [(arm.pictures[key].prompt, arm.trigger) for arm in arms if key in arm.pictures]
    prompts = list(dict.fromkeys(prompt for prompt, _ in there))
    if len(prompts) <= 1:
        return "".join(prompts)
    general = {captions.replace_trigger(prompt, trigger, TRIGGER) for prompt, trigger in there}
    return general.pop() if len(general) == 1 else f"{prompts[0]} {OTHERS_DIFFER}"


def _ladder(trial: TrialFindings, drawn: Sequence[Picture], base: dict[Key, Picture]) -> Sheet:
    shown = first_seed(drawn)
    drawn_at = Counter(step for step, _ in {(picture.step, picture.weight) for picture in shown})
    kept = max(drawn_at, key=lambda step: (drawn_at[step], step))  # the step that has the ladder of weights
    steps = sorted({picture.step for picture in shown if picture.weight == trial.weight})
    columns = [(Heading(name="base", below="no LoRA"), base)] if base else []
    columns += [(_step_heading(trial, step), _drawn_at(shown, step, trial.weight)) for step in steps]
    for place, weight in enumerate(sorted({picture.weight for picture in shown if picture.step == kept})):
        below = "judged" if weight == trial.weight else f"step {kept}"
        head = Heading(name=f"weight {weight:g}", below=below, class_="" if place else "apart")
        columns.append((head, _drawn_at(shown, kept, weight)))
    of_tier = {picture.tier: picture for picture in reversed(shown)}  # the first of each
    rows = [picture for picture in shown if of_tier[picture.tier] is picture]
    return Sheet(
        columns=[head for head, _ in columns],
        rows=[(_tier_heading(row.tier, row.prompt), [there.get(row.key) for _, there in columns]) for row in rows],
    )


def _tier_heading(tier: str, prompt: str) -> Heading:
    return Heading(name=TIER_NAMES.get(tier, tier), below=prompt)


def _step_heading(trial: TrialFindings, step: int) -> Heading:
    rung = trial.rung(step)
    seen = f"{rung.exposures:.0f} per image" if rung else ""
    moments = {trial.done_at: ("done here", "done"), trial.burned_at: ("burned", "overcooked")}
    below, class_ = moments.get(step, (seen, ""))
    return Heading(name=f"step {step}", below=below, class_=class_)


def _drawn_at(pictures: Sequence[Picture], step: int, weight: float | None) -> dict[Key, Picture]:
    return {picture.key: picture for picture in pictures if (picture.step, picture.weight) == (step, weight)}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One sample on the disk."""

    file: Path
    tier: str
    place: int  # of the prompt among its tier's, from 0
    prompt: str
    seed: int
    weight: float
    step: int  # 0: the base

    @property
    def key(self) -> Key:
        """What makes two pictures comparable; not the prompt, which has another trigger in another arm."""
        return self.tier, self.place, self.seed

    def open(self) -> Image.Image | None:
        """Read it, RGB; None when it is gone or cannot be read, for the folder may be a stranger's."""
        try:
            return open_rgb(self.file)
        except DatasetError:
            return None


def of_run(run: RunFolder) -> list[Picture]:
    """List all samples of a trial, rung by rung."""
    return [picture for step in steps_in(run.samples()) for picture in of_step(run, step)]


def of_step(run: RunFolder, step: int) -> list[Picture]:
    """Return a trial's samples at one step."""
    return _read(run.samples(step), step)


def of_kept(run: RunFolder) -> list[Picture]:
    """Return the samples of the checkpoint that a trial keeps; their step is 0."""
    return _read(run.samples(), 0)


def of_base(sweep_folder: Path) -> list[Picture]:
    """Return the base model's own samples, at the same seeds and at the prompts of one of the arms."""
    return _read(sweep_folder / BASE_SAMPLES, 0)


def first_seed(pictures: Iterable[Picture]) -> list[Picture]:
    """Choose those of the first seed that was drawn at every rung, in their order."""
    kept = list(pictures)
    first = min((picture.seed for picture in kept), default=0)
    return [picture for picture in kept if picture.seed == first]


@functools.lru_cache(maxsize=4096)
def data_uri(sample: Picture) -> str | None:
    """Return a picture as text; None when it is gone or cannot be read."""
    picture = sample.open()
    if picture is None:
        return None
    lossless = max(picture.size) <= _LOSSLESS_TO_PX
    picture.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    return as_uri(picture, "webp", lossless=lossless, quality=90, method=4)


def as_uri(picture: Image.Image, form: str, **options: Any) -> str:
    """Write a picture as text for a page; `options` are Pillow's for files of this form."""
    written = io.BytesIO()
    picture.save(written, form, **options)
    return f"data:image/{form};base64,{base64.b64encode(written.getvalue()).decode()}"


def _read(folder: Path, step: int) -> list[Picture]:
    places: dict[str, dict[str, int]] = defaultdict(dict)  # tier -> prompt -> place
    try:
        found = []
        for file, row in pictures_in(folder):
            tier, prompt = str(row["tier"]), str(row["prompt"])
            picture = Picture(
                file=file,
                tier=tier,
                place=places[tier].setdefault(prompt, len(places[tier])),
                prompt=prompt,
                seed=int(row["seed"]),
                weight=float(row["weight"]),
                step=step,
            )
            found.append(picture)
    except NO_INDEX:
        return []
    return found
