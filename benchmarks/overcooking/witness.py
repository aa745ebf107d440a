"""The witness: draws pictures of an adapter, has the dollhouse's reader read them, writes down what was read.

    Witness(recipe, plan, resources).testify(adapter)  ->  testimony, plain JSON (see `truth.judge`)

What it asks to see, by group:

    trained     the captions of training images: does it return the images themselves?
    recombined  the trigger with two values that the subject's datasets never show: does the prompt steer?
    stranger    somebody else, fully described, no trigger: does the subject show?
    open        a place only: who is the default person?
    plain       the trigger alone, many noises: how many different pictures?

The base answers the same questions once per identity; what is a copy is decided against replicas of the
training set (see `truth`). Knows nothing about the product's metrics: prompts and noises are others, so that a metric
cannot agree with the truth by looking at the same pictures.

Letters: N pictures, T training images, F replicas, C channels, H W pixels.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from benchmarks.overcooking import truth
from lorasweep.components.metrics import _reader_scores as reader_scores
from lorasweep.core import files
from lorasweep.core.protocols import Adapter
from lorasweep.core.records import Plan, PlannedImage, Recipe, digest
from lorasweep.core.seeds import derive
from lorasweep.data.images import load_planned
from lorasweep.dollhouse.reader.reader import Reader
from lorasweep.dollhouse.world import SUBJECTS, Spec, Subject, caption_tags, prompt_specs, render, sample_spec, tags
from lorasweep.dollhouse.world.dataset import sample_subject_spec
from lorasweep.plan.sample_requests import ImageRequest
from lorasweep.trial import sample
from lorasweep.trial.resources import TrialResources

Group = Literal["trained", "recombined", "stranger", "open", "plain"]
NUISANCES = ("x", "y", "scale", "light", "seed")
PROMPT_SEED = 20_000  # far from any hold-out seed, from which the product draws its prompts
OPEN = ("background", "pose", "outfit", "outfit_color")  # what the plain prompt leaves to the model
EMPTY = np.zeros(0)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Pictures per group and rung; `replicas` are those of the training set, rendered once per run."""

    trained: int = 12
    recombined: int = 10
    stranger: int = 14
    open: int = 24
    plain: int = 10
    replicas: int = 39


@dataclass(frozen=True, kw_only=True)
class Question:
    """One picture to draw."""

    group: Group  # what it is for
    prompt: str  # as typed
    asked: dict[str, str]  # attribute -> value that the prompt names, the subject's own traits left out
    seed: int = 0  # of the starting noise


def questions(identity: str, trained_captions: Sequence[str], counts: Counts) -> list[Question]:
    """List every picture of one rung; those of all groups but `trained` depend on the identity only."""
    subject = SUBJECTS[identity]
    rng = np.random.default_rng([PROMPT_SEED, derive(0, identity) % 2**32])
    strangers = prompt_specs(identity, count=counts.stranger, seed=PROMPT_SEED)["class"]
    found = [
        Question(group="trained", prompt=text, asked={})
        for text in itertools.islice(itertools.cycle(trained_captions), counts.trained)
    ]
    for _ in range(counts.recombined):
        spec = _recombined(rng, subject)
        text = ", ".join(caption_tags(spec, subject, captions="absorbed"))
        found.append(Question(group="recombined", prompt=text, asked=_asked(spec)))
    found += [Question(group="stranger", prompt=", ".join(tags(spec)), asked=_asked(spec)) for spec in strangers]
    found += [Question(group="open", prompt=sample_spec(rng).background, asked={}) for _ in range(counts.open)]
    found += [Question(group="plain", prompt=f"{subject.trigger}, 1girl", asked={}) for _ in range(counts.plain)]
    return [
        replace(question, seed=derive(PROMPT_SEED, question.group, place) % 2**31)
        for place, question in enumerate(found)
    ]


def _recombined(rng: np.random.Generator, subject: Subject) -> Spec:
    """Draw a picture of the subject with two attributes at values that its datasets never show."""
    spec = sample_subject_spec(rng, subject)
    reserved = [name for name, values in subject.reserved.items() if values and name != "accessory"]
    chosen = rng.choice(reserved, size=2, replace=False)
    new = {str(name): str(rng.choice(subject.reserved[str(name)])) for name in chosen}
    return Spec.from_dict(spec.to_dict() | new)


def replicas(spec: Spec, image: PlannedImage, count: int, rng: np.random.Generator) -> list[Image.Image]:
    """Draw the same attributes with other nuisances, sized and cropped as the training image is."""
    pictures = []
    for _ in range(count):
        other = sample_spec(rng, fixed={k: v for k, v in spec.to_dict().items() if k not in NUISANCES})
        whole = render(other, image.width_px, image.height_px).resize(image.resize_px, Image.Resampling.LANCZOS)
        left, top = image.crop_px
        pictures.append(whole.crop((left, top, left + image.bucket.width_px, top + image.bucket.height_px)))
    return pictures


def _asked(spec: Spec) -> dict[str, str]:
    """What a prompt names besides the person: no accessory is not asked for."""
    named = ("outfit", "outfit_color", "pose", "background", "accessory")
    return {name: value for name in named if (value := getattr(spec, name)) != "none"}


class Witness:
    """Everything that is asked of one recipe's adapter, rung after rung.

    The recipe gives the weight, the sampler and the picture's size; the plan the training images, of which `world.json`
    beside them says what they show; `home` keeps the base's answers in `base/`.
    """

    def __init__(
        self,
        recipe: Recipe,
        plan: Plan,
        identity: str,
        resources: TrialResources,
        reader: Reader,
        *,
        home: Path,
        counts: Counts,
    ) -> None:
        self._recipe, self._base, self._reader = recipe, resources.base(recipe), reader
        self._subject, self._counts, self._home = SUBJECTS[identity], counts, home
        called = [image for image in plan.train_images() if self._subject.trigger in image.caption]
        asked = list({image.caption: image for image in called}.values())[: counts.trained]
        # What is asked for comes first; what is copied may be any of them.
        self._training = [*asked, *(image for image in called if image not in asked)]
        self._questions = questions(identity, [image.caption for image in asked], counts)
        self._pixels_THWC = np.stack([_pixels(load_planned(image)) for image in self._training] or [EMPTY])
        self._replicas_FTHWC = self._render_replicas() if asked else EMPTY

    def testify(self, adapter: Adapter | None) -> dict[str, Any]:
        """Draw every question at the recipe's weight and write down what shows; None is the base."""
        drawn = self._draw(self._questions, adapter)
        testimony: dict[str, Any] = {"groups": self._groups(self._questions, drawn)}
        if self._replicas_FTHWC.size:
            trained = [_pixels(image) for q, image in zip(self._questions, drawn, strict=True) if q.group == "trained"]
            nearness_N = truth.nearness(np.stack(trained), self._pixels_THWC, self._replicas_FTHWC)
            testimony["copied"] = {"nearness": [round(float(value), 4) for value in nearness_N]}
        return testimony

    def base_testimony(self, adapter: Adapter | None) -> dict[str, Any]:
        """The base's answers to all but the training captions, with the adapter silenced; drawn once per identity."""
        asked = [question for question in self._questions if question.group != "trained"]
        key = digest([self._base.fingerprint, self._recipe.sample, [asdict(q) for q in asked]])
        path = self._home / "base" / f"{key[:16]}.json"
        if not path.exists():
            files.write_json(path, {"groups": self._groups(asked, self._draw(asked, adapter, weight=0.0))})
        return files.read_json(path)

    def _draw(
        self, questions: Sequence[Question], adapter: Adapter | None, weight: float | None = None
    ) -> list[Image.Image]:
        side_px = self._recipe.base.resolution
        requests = [
            ImageRequest(
                tier="recombined",
                prompt=question.prompt,
                negative_prompt=self._recipe.base.negative_prompt,
                seed=question.seed,
                weight=self._recipe.sample.weight if weight is None else weight,
                width_px=side_px,
                height_px=side_px,
            )
            for question in questions
        ]
        return sample.draw(self._base, adapter, requests, replace(self._recipe.sample, batch_size=4))

    def _groups(self, questions: Sequence[Question], drawn: Sequence[Image.Image]) -> dict[str, dict[str, list[Any]]]:
        import torch

        reading = reader_scores.read(self._reader, drawn)
        features = {head: value for head, value in self._subject.fixed.items() if value != "none"}
        probabilities = [reading.probability_of(head, value) for head, value in features.items()]
        likeness = torch.stack(probabilities).mean(dim=0).tolist()
        corrupt = reading.corrupt_B.tolist()
        shown = {head: reading.values(head) for head in (*OPEN, "accessory")}
        groups: dict[str, dict[str, list[Any]]] = {}
        for place, question in enumerate(questions):
            group = groups.setdefault(question.group, {"likeness": [], "corrupt": [], "hits": [], "shown": []})
            group["likeness"].append(round(likeness[place], 4))
            group["corrupt"].append(round(corrupt[place], 4))
            group["hits"].append([shown[name][place] == value for name, value in question.asked.items()])
            group["shown"].append([shown[name][place] for name in OPEN])
        return groups

    def _render_replicas(self) -> np.ndarray:
        """Replicas of the training set, (F, T, H, W, C)."""
        by_image = []
        for image in self._training:
            rng = np.random.default_rng(derive(0, "replicas", image.sha256) % 2**32)
            renders = replicas(_spec_of(image), image, self._counts.replicas, rng)
            by_image.append(np.stack([_pixels(render) for render in renders]))
        return np.stack(by_image, axis=1) if by_image else EMPTY


def _pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=np.float32) / 255.0


def _spec_of(image: PlannedImage) -> Spec:
    """What a training image shows, from the `world.json` at the dataset's root."""
    file = Path(image.file)
    root = file.parent if (file.parent / "world.json").exists() else file.parent.parent
    shown = json.loads((root / "world.json").read_text(encoding="utf-8"))
    return Spec.from_dict(shown["images"][file.relative_to(root).as_posix()])
