"""Captions for training, made directly as token ids: shuffled tags, dropped tags, a few junk words.

Takes attribute indices, returns ids; tokenising tag by tag once makes a batch cost microseconds. Knows
nothing about images.

Shapes: B batch, T tokens, A attributes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lorasweep.dollhouse.world.attributes import ATTRIBUTES
from lorasweep.dollhouse.world.spec import Spec

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

_CONSONANTS = "bcdfghjklmnpqrstvwxz"


@dataclass(frozen=True, kw_only=True)
class CaptionNoise:
    """Rates in [0, 1] of what captions go through in training.

    Attributes:
        empty: captions dropped whole, for classifier-free guidance.
        sparse: captions of which each tag stays with a probability drawn once a caption.
        drop: each tag of the other captions.
        shuffle: captions whose tags change order.
        junk: captions that carry a meaningless word, so that a trigger is neutral before it is learned.
    """

    empty: float = 0.10
    sparse: float = 0.10
    drop: float = 0.08
    shuffle: float = 0.5
    junk: float = 0.08


def indices_of(spec: Spec) -> list[int]:
    """Return the index of each attribute's value, in the order of `ATTRIBUTES`."""
    return [values.index(getattr(spec, name)) for name, values in ATTRIBUTES.items()]


class Captioner:
    """Turns attribute indices into padded token ids, and says which attributes the caption names.

    Args:
        tokenizer: of the base.
        noise: rates.
    """

    def __init__(self, tokenizer: CLIPTokenizer, noise: CaptionNoise) -> None:
        self._noise = noise
        self._bos, self._eos = int(tokenizer.bos_token_id), int(tokenizer.eos_token_id)
        self._length = int(tokenizer.model_max_length)
        self._tokenizer = tokenizer
        self._comma = self._ids(",")
        self._class = self._ids("1girl")
        self._words = {(name, value): self._ids(value) for name, values in ATTRIBUTES.items() for value in values}
        self._hair, self._eyes = self._ids("hair"), self._ids("eyes")

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False).input_ids)

    def _phrases(self, value_of: dict[str, str]) -> list[tuple[tuple[str, ...], list[int]]]:
        """Return (attributes named, ids) of each tag of a fully described doll."""
        word = {name: self._words[name, value] for name, value in value_of.items()}
        phrases: list[tuple[tuple[str, ...], list[int]]] = [
            (("hair_color",), word["hair_color"] + self._hair),
            (("hair_style",), word["hair_style"]),
            (("eye_color",), word["eye_color"] + self._eyes),
            (("skin",), word["skin"]),
            (("outfit", "outfit_color"), word["outfit_color"] + word["outfit"]),
            (("pose",), word["pose"]),
            (("background",), word["background"]),
        ]
        if value_of["accessory"] != "none":
            phrases.append((("accessory",), word["accessory"]))
        return phrases

    def _keep_rate(self, rng: np.random.Generator) -> float:
        draw = rng.random()
        if draw < self._noise.empty:
            return -1.0
        if draw < self._noise.empty + self._noise.sparse:
            return float(rng.random())
        return 1.0 - self._noise.drop

    def caption(self, rng: np.random.Generator, indices: list[int]) -> tuple[list[int], set[str]]:
        """Return unpadded ids without BOS and EOS, and the attributes named."""
        keep = self._keep_rate(rng)
        if keep < 0.0:
            return [], set()
        value_of = {name: values[index] for (name, values), index in zip(ATTRIBUTES.items(), indices, strict=True)}
        kept = [phrase for phrase in self._phrases(value_of) if rng.random() < keep]
        tags = [self._class, *(ids for _, ids in kept)]
        if rng.random() < self._noise.shuffle:
            tags = [tags[index] for index in rng.permutation(len(tags))]
        if rng.random() < self._noise.junk:
            letters = rng.choice(list(_CONSONANTS), size=int(rng.integers(3, 6)))
            tags.insert(0 if rng.random() < 0.7 else int(rng.integers(len(tags) + 1)), self._ids("".join(letters)))
        ids = [token for tag in tags for token in (*tag, *self._comma)][: -len(self._comma)]
        return ids, {name for names, _ in kept for name in names}

    def batch(self, rng: np.random.Generator, indices_BA: np.ndarray) -> tuple[Tensor, Tensor]:
        """Caption a batch.

        Args:
            rng: source of every draw.
            indices_BA: attribute indices.

        Returns:
            Padded token ids (BT), and attribute indices (BA) with -1 where the caption does not name the
            attribute.
        """
        ids_BT = torch.full((len(indices_BA), self._length), self._eos)
        named_BA = torch.full(indices_BA.shape, -1)
        for row, indices in enumerate(indices_BA.tolist()):
            ids, named = self.caption(rng, indices)
            ids = [self._bos, *ids[: self._length - 2]]
            ids_BT[row, : len(ids)] = torch.tensor(ids)
            for column, name in enumerate(ATTRIBUTES):
                if name in named:
                    named_BA[row, column] = indices[column]
        return ids_BT, named_BA
