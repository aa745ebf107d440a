"""The witness: draws pictures of an adapter, has the dollhouse's reader read them, writes down what was read.

    Witness(recipe, plan, kitchen).testify(adapter)  ->  testimony, plain JSON (see `truth.judge`)

The base answers the same questions once per identity; what counts as a copy is set once per dataset from
fresh renders. Knows nothing about the product's metrics.

Letters: B pictures, C channels, H W pixels, N pictures, K nuisances.
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

from benchmarks.overcooking import copies as copying
from benchmarks.overcooking import pictures
from lorasweep import files, sample, seeds
from lorasweep.dollhouse.world import SUBJECTS, Spec
from lorasweep.metrics import dolls
from lorasweep.records import digest

if TYPE_CHECKING:
    from lorasweep.dollhouse.reader import Reader, Reading
    from lorasweep.kitchen import Kitchen
    from lorasweep.protocols import Adapter
    from lorasweep.records import Plan, PlannedImage, Recipe

OPEN = ("background", "pose", "outfit", "outfit_color")  # what the plain prompt leaves to the model


class Witness:
    """Everything that is asked of one recipe's adapter, rung after rung.

    Args:
        recipe: gives the weight, the sampler and the picture's size.
        plan: gives the training images; `world.json` beside them says what they show.
        identity: whose features are looked for.
        kitchen: gives base and caches.
        reader: reads pictures back.
        home: keeps the base's answers in `base/`.
        counts: pictures per group.
    """

    def __init__(
        self,
        recipe: Recipe,
        plan: Plan,
        identity: str,
        kitchen: Kitchen,
        reader: Reader,
        *,
        home: Path,
        counts: pictures.Counts,
    ) -> None:
        self._recipe, self._base, self._reader = recipe, kitchen.base(recipe), reader
        self._subject, self._counts, self._home = SUBJECTS[identity], counts, home
        self._latents, _ = kitchen.caches(recipe)
        called = [image for image in plan.train_images() if self._subject.trigger in image.caption]
        self._training = list({image.caption: image for image in called}.values())[: counts.trained]
        self._questions = pictures.questions(identity, [image.caption for image in self._training], counts)
        self._copies, self._pixels_THWC, self._nuisances_TK = self._calibrate_copies()

    def testify(self, adapter: Adapter | None) -> dict[str, Any]:
        """Draw every question at the recipe's weight and write down what shows; None is the base."""
        drawn = self._draw(self._questions, adapter)
        testimony: dict[str, Any] = {"groups": self._groups(self._questions, drawn)}
        if self._copies is not None:
            trained = [image for q, image in zip(self._questions, drawn, strict=True) if q.group == "trained"]
            testimony["copied"] = self._copied(trained)
        return testimony

    def base_testimony(self, adapter: Adapter | None) -> dict[str, Any]:
        """The base's answers to all but the training captions, drawn once per identity and kept on disk.

        Args:
            adapter: the one that lives in the base right now; it is silenced.
        """
        asked = [question for question in self._questions if question.group != "trained"]
        key = digest([self._base.fingerprint, [asdict(q) for q in asked], self._recipe.sample])
        path = self._home / "base" / f"{key[:16]}.json"
        if not path.exists():
            drawn = self._draw(asked, adapter, weight=0.0)
            files.write_json(path, {"groups": self._groups(asked, drawn)})
        answer: dict[str, Any] = files.read_json(path)
        return answer

    # ------------------------------------------------------------------------------------------- drawing

    def _draw(
        self, questions: Sequence[pictures.Question], adapter: Adapter | None, weight: float | None = None
    ) -> list[Image.Image]:
        side_px = self._recipe.base.resolution
        requests = [
            sample.ImageRequest(
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

    # ------------------------------------------------------------------------------------------- reading

    def _groups(
        self, questions: Sequence[pictures.Question], drawn: Sequence[Image.Image]
    ) -> dict[str, dict[str, list[Any]]]:
        reading = dolls.read(self._reader, drawn)
        features = {head: value for head, value in self._subject.fixed.items() if value != "none"}
        probabilities = [reading.probability_of(head, value) for head, value in features.items()]
        likeness = torch.stack(probabilities).mean(dim=0).tolist()
        identity, corrupt = reading.identity(self._subject).tolist(), reading.corrupt_B.tolist()
        shown = {head: reading.values(head) for head in (*OPEN, "accessory")}
        groups: dict[str, dict[str, list[Any]]] = {}
        for place, question in enumerate(questions):
            group = groups.setdefault(
                question.group, {"likeness": [], "identity": [], "corrupt": [], "hits": [], "shown": []}
            )
            group["likeness"].append(round(likeness[place], 4))
            group["identity"].append(round(identity[place], 4))
            group["corrupt"].append(round(corrupt[place], 4))
            group["hits"].append([shown[name][place] == value for name, value in question.asked.items()])
            group["shown"].append([shown[name][place] for name in OPEN])
        return groups

    # ------------------------------------------------------------------------------------------- copying

    def _copied(self, drawn: Sequence[Image.Image]) -> dict[str, list[int]]:
        """Which pictures of training captions are copies, by pixels and by nuisances."""
        assert self._copies is not None and self._nuisances_TK is not None
        pixels_NHWC = np.stack([np.asarray(image) for image in drawn]) / 255.0
        distances_NT = copying.pixel_distances(pixels_NHWC, self._pixels_THWC)
        near_N = copying.nearest(distances_NT, self._copies.usual_T)
        read_NK = dolls.read(self._reader, drawn).nuisances_BN.cpu().numpy()
        gaps_N = copying.nuisance_gaps(read_NK, self._nuisances_TK)
        return {
            "pixel": [int(value) for value in near_N < self._copies.pixel_limit],
            "nuisance": [int(value) for value in gaps_N < self._copies.nuisance_limit],
        }

    def _calibrate_copies(self) -> tuple[copying.Copies | None, np.ndarray, np.ndarray | None]:
        """Set what counts as a copy; nothing does without training images of the subject."""
        if not self._training:
            return None, np.zeros(0), None
        training_THWC = np.stack([self._as_trained(image) for image in self._training])
        fresh = []
        for place, image in enumerate(self._training):
            rng = np.random.default_rng(seeds.derive(place, "fresh") % 2**32)
            renders = pictures.fresh_renders(_spec_of(image), image, self._counts.fresh, rng)
            fresh.append(np.stack([self._through_vae(np.asarray(render)) for render in renders]))
        fresh_TFHWC = np.stack(fresh)
        training_TK = self._nuisances(training_THWC)
        fresh_TFK = np.stack([self._nuisances(renders) for renders in fresh_TFHWC])
        return (
            copying.calibrate(fresh_TFHWC, training_THWC, fresh_TFK, training_TK),
            training_THWC,
            training_TK,
        )

    def _as_trained(self, image: PlannedImage) -> np.ndarray:
        mean_CHW, _ = self._latents.mean_std(image)
        return self._decode(mean_CHW[None])

    def _through_vae(self, pixels_HWC: np.ndarray) -> np.ndarray:
        pixels_BCHW = torch.from_numpy(pixels_HWC.astype(np.float32) / 127.5 - 1.0).permute(2, 0, 1)[None]
        mean_BCHW, _ = self._base.encode_images(pixels_BCHW)
        return self._decode(mean_BCHW)

    @torch.no_grad()
    def _decode(self, latent_BCHW: torch.Tensor) -> np.ndarray:
        vae = self._base.vae
        decoded_CHW = vae.decode(latent_BCHW.to(self._base.dtype) / vae.config.scaling_factor).sample[0]
        pixels: np.ndarray = ((decoded_CHW.float().clamp(-1, 1) + 1) / 2).permute(1, 2, 0).cpu().numpy()
        return pixels

    def _nuisances(self, pixels_NHWC: np.ndarray) -> np.ndarray:
        reading: Reading = self._reader.read(torch.from_numpy(pixels_NHWC).permute(0, 3, 1, 2).float())
        nuisances: np.ndarray = reading.nuisances_BN.cpu().numpy()
        return nuisances


def _spec_of(image: PlannedImage) -> Spec:
    """What a training image shows, from the `world.json` at the dataset's root."""
    file = Path(image.file)
    root = file.parent if (file.parent / "world.json").exists() else file.parent.parent
    truth = json.loads((root / "world.json").read_text(encoding="utf-8"))
    return Spec.from_dict(truth["images"][file.relative_to(root).as_posix()])
