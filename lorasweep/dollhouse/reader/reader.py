"""The reader as others use it: load it, give it pictures, ask what they show.

Takes RGB tensors in [0, 1], returns a `Reading`. Knows nothing about how pictures were made.

Shapes: B batch, C channels, H height, W width, K classes of a head, N nuisances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lorasweep.dollhouse import weights_dir
from lorasweep.dollhouse.reader.labels import HEADS, class_indices
from lorasweep.dollhouse.reader.network import ReaderNetwork
from lorasweep.dollhouse.world.attributes import ATTRIBUTES, INTRINSIC
from lorasweep.dollhouse.world.spec import Spec
from lorasweep.dollhouse.world.subjects import Subject

WEIGHTS_NAME = "reader.safetensors"


@dataclass(frozen=True)
class Reading:
    """What pictures show."""

    probabilities: dict[str, Tensor]  # by head of `labels.HEADS` (attributes, marks), a BK tensor whose rows sum to 1
    nuisances_BN: Tensor  # x, y, scale and light, in about [-1, 1]
    corrupt_B: Tensor  # probability that a picture is no clean doll: blended, noisy, blurred, burnt

    def values(self, head: str) -> list[str]:
        """Return the likeliest value of a head for every picture."""
        return [HEADS[head][index] for index in self.probabilities[head].argmax(dim=1).tolist()]

    def probability_of(self, head: str, value: str) -> Tensor:
        """Return the probability (B) that a head has a value."""
        return self.probabilities[head][:, HEADS[head].index(value)]

    def marks(self, subject: Subject) -> Tensor:
        """Return the probability (B) that the subject's marks are shown: what no base tag asks for."""
        return self._joint(dict(zip(("head_mark", "face_mark", "mark_color"), subject.marks, strict=True)))

    def traits(self, subject: Subject) -> Tensor:
        """Return the probability (B) that the subject's hair colour and style, eyes and skin are shown."""
        return self._joint({name: getattr(subject, name) for name in INTRINSIC})

    def identity(self, subject: Subject) -> Tensor:
        """Return the probability (B) that marks and traits all match; heads are taken as independent."""
        return self.marks(subject) * self.traits(subject)

    def matches(self, specs: Sequence[Spec]) -> dict[str, Tensor]:
        """Return, by attribute, whether each picture (B, bool) shows what its spec says; as many specs as pictures."""
        count = len(self.corrupt_B)
        if len(specs) != count:
            raise ValueError(f"there must be one spec a picture, got {len(specs)} specs for {count} pictures")
        wanted = class_indices(list(specs))
        return {name: self.probabilities[name].argmax(dim=1).cpu() == torch.tensor(wanted[name]) for name in ATTRIBUTES}

    def tag_accuracy(self, specs: Sequence[Spec]) -> dict[str, float]:
        """Return, by attribute, the share of pictures that show what their spec says."""
        return {name: hit_B.float().mean().item() for name, hit_B in self.matches(specs).items()}

    def _joint(self, wanted: dict[str, str]) -> Tensor:
        factors = [self.probability_of(head, value) for head, value in wanted.items()]
        return torch.stack(factors).prod(dim=0)


class Reader:
    """A trained reader."""

    def __init__(self, network: ReaderNetwork) -> None:
        self._network = network.eval()

    @classmethod
    def load(cls, device: str = "cpu", folder: Path | None = None) -> Reader:
        """Load a reader from a folder with its weights, the shipped one by default; raises FileNotFoundError."""
        network = ReaderNetwork()
        path = (folder or weights_dir() / "reader") / WEIGHTS_NAME
        if not path.exists():
            raise FileNotFoundError(f"the reader's weights must be at {path}; run `python -m tools.pretrain_dollhouse`")
        state = {name: value.float() if value.is_floating_point() else value for name, value in load_file(path).items()}
        network.load_state_dict(state)
        return cls(network.to(device))

    def save(self, folder: Path) -> None:
        """Write the weights in half precision."""
        folder.mkdir(parents=True, exist_ok=True)
        state = self._network.state_dict()
        halved = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in state.items()}
        save_file(halved, folder / WEIGHTS_NAME)

    @torch.no_grad()
    def read(self, images_BCHW: Tensor) -> Reading:
        """Read a batch of RGB pictures of one size, in [0, 1], with sides of at least 32 px.

        Raises:
            ValueError: the tensor is not a batch of RGB pictures.
        """
        if images_BCHW.ndim != 4 or images_BCHW.shape[1] != 3:
            raise ValueError(f"pictures must have shape (B, 3, H, W), got {tuple(images_BCHW.shape)}")
        device = next(self._network.parameters()).device
        outputs = self._network(images_BCHW.to(device).float())
        return Reading(
            probabilities={name: logits_BK.softmax(dim=1) for name, logits_BK in outputs.logits.items()},
            nuisances_BN=outputs.nuisances_BN,
            corrupt_B=outputs.corrupt_B.sigmoid(),
        )
