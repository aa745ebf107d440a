"""The witness: draws pictures of an adapter, has the dollhouse's reader read them, writes down what was read.

    Witness(recipe, plan, resources).testify(adapter)  ->  testimony, plain JSON (see `truth.judge`)

The base answers the same questions once per identity; what is a copy is decided against replicas of the
training set (see `truth`). Knows nothing about the product's metrics.

Letters: N pictures, T training images, F replicas, C channels, H W pixels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from benchmarks.overcooking import pictures, truth
from lorasweep.components.metrics import _reader_scores as reader_scores
from lorasweep.core import files, seeds
from lorasweep.core.records import digest
from lorasweep.data.images import load_planned
from lorasweep.dollhouse.world import SUBJECTS, Spec
from lorasweep.plan.sample_requests import ImageRequest
from lorasweep.trial import sample

if TYPE_CHECKING:
    from lorasweep.core.protocols import Adapter
    from lorasweep.core.records import Plan, PlannedImage, Recipe
    from lorasweep.dollhouse.reader import Reader
    from lorasweep.trial.resources import TrialResources

OPEN = ("background", "pose", "outfit", "outfit_color")  # what the plain prompt leaves to the model


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
        counts: pictures.Counts,
    ) -> None:
        self._recipe, self._base, self._reader = recipe, resources.base(recipe), reader
        self._subject, self._counts, self._home = SUBJECTS[identity], counts, home
        called = [image for image in plan.train_images() if self._subject.trigger in image.caption]
        asked = list({image.caption: image for image in called}.values())[: counts.trained]
        # What is asked for comes first; what is copied may be any of them.
        self._training = [*asked, *(image for image in called if image not in asked)]
        self._questions = pictures.questions(identity, [image.caption for image in asked], counts)
        self._pixels_THWC = np.stack([_pixels(load_planned(image)) for image in self._training] or [EMPTY])
        self._replicas_FTHWC = self._render_replicas() if asked else EMPTY

    def testify(self, adapter: Adapter | None) -> dict[str, Any]:
        """Draw every question at the recipe's weight and write down what shows; None is the base."""
        drawn = self._draw(self._questions, adapter)
        testimony: dict[str, Any] = {"groups": self._groups(self._questions, drawn)}
        if self._replicas_FTHWC.size:
            trained = [image for q, image in zip(self._questions, drawn, strict=True) if q.group == "trained"]
            testimony["copied"] = self._copied(trained)
        return testimony

    def base_testimony(self, adapter: Adapter | None) -> dict[str, Any]:
        """The base's answers to all but the training captions, with the adapter silenced; drawn once per identity."""
        asked = [question for question in self._questions if question.group != "trained"]
        key = digest([self._base.fingerprint, self._recipe.sample, [asdict(q) for q in asked]])
        path = self._home / "base" / f"{key[:16]}.json"
        if not path.exists():
            files.write_json(path, {"groups": self._groups(asked, self._draw(asked, adapter, weight=0.0))})
        answer: dict[str, Any] = files.read_json(path)
        return answer

    def _draw(
        self, questions: Sequence[pictures.Question], adapter: Adapter | None, weight: float | None = None
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

    def _groups(
        self, questions: Sequence[pictures.Question], drawn: Sequence[Image.Image]
    ) -> dict[str, dict[str, list[Any]]]:
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

    def _copied(self, drawn: Sequence[Image.Image]) -> dict[str, Any]:
        """How near pictures of training captions are to the training images, against replicas of them."""
        pictures_NHWC = np.stack([_pixels(image) for image in drawn])
        nearness_N = truth.nearness(pictures_NHWC, self._pixels_THWC, self._replicas_FTHWC)
        return {"nearness": [round(float(value), 4) for value in nearness_N]}

    def _render_replicas(self) -> np.ndarray:
        """Replicas of the training set, (F, T, H, W, C)."""
        by_image = []
        for image in self._training:
            rng = np.random.default_rng(seeds.derive(0, "replicas", image.sha256) % 2**32)
            renders = pictures.replicas(_spec_of(image), image, self._counts.replicas, rng)
            by_image.append(np.stack([_pixels(render) for render in renders]))
        return np.stack(by_image, axis=1) if by_image else EMPTY


EMPTY = np.zeros(0)


def _pixels(image: Image.Image) -> np.ndarray:
    pixels: np.ndarray = np.asarray(image, dtype=np.float32) / 255.0
    return pixels


def _spec_of(image: PlannedImage) -> Spec:
    """What a training image shows, from the `world.json` at the dataset's root."""
    file = Path(image.file)
    root = file.parent if (file.parent / "world.json").exists() else file.parent.parent
    shown = json.loads((root / "world.json").read_text(encoding="utf-8"))
    return Spec.from_dict(shown["images"][file.relative_to(root).as_posix()])
