"""The reader's network: a small residual convolutional net that reads pictures of any size from 32 px a side.

Knows nothing about training or files.

Shapes: B batch, C channels, H height, W width, K classes of a head, N nuisances.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lorasweep.dollhouse.reader.labels import HEADS
from lorasweep.dollhouse.world.spec import NUISANCES

WIDTHS = (32, 64, 128)


@dataclass(frozen=True)
class Outputs:
    """Raw outputs: logits by head (BK each), nuisances (BN) and the logit of being corrupt (B)."""

    logits: dict[str, Tensor]
    nuisances_BN: Tensor
    corrupt_B: Tensor


class Residual(nn.Module):
    """Two 3 x 3 convolutions with batch norm around a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return relu(x + body(x))."""
        return torch.relu(x_BCHW + self.body(x_BCHW))


def _shrink(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=2, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class ReaderNetwork(nn.Module):
    """Convolutions to 1/8 of the size, three poolings, one linear layer for all heads.

    Mean pooling tells how much, max pooling whether anywhere, and two coordinate channels where.
    """

    def __init__(self) -> None:
        super().__init__()
        first, second, third = WIDTHS
        self.trunk = nn.Sequential(
            _shrink(3, first, 5),
            Residual(first),
            _shrink(first, second, 3),
            Residual(second),
            _shrink(second, third, 3),
        )
        self.place = nn.Conv2d(third + 2, third, 1)
        self.last = Residual(third)
        self.attend = nn.Conv2d(third, 8, 1)
        outputs = sum(len(classes) for classes in HEADS.values()) + len(NUISANCES) + 1
        self.heads = nn.Linear(10 * third, outputs)

    def forward(self, image_BCHW: Tensor) -> Outputs:
        """Read RGB pictures in [0, 1], with sides of at least 32 px."""
        features_BCHW = self.trunk(image_BCHW * 2.0 - 1.0)
        batch, _, height, width = features_BCHW.shape
        rows = torch.linspace(-1, 1, height, device=features_BCHW.device)
        columns = torch.linspace(-1, 1, width, device=features_BCHW.device)
        grid_BCHW = torch.stack(torch.meshgrid(rows, columns, indexing="ij")).expand(batch, 2, height, width)
        features_BCHW = self.last(self.place(torch.cat([features_BCHW, grid_BCHW], dim=1)))
        flat_BCL = features_BCHW.flatten(2)
        focus_BAL = self.attend(features_BCHW).flatten(2).softmax(dim=-1)
        focused_BD = torch.einsum("bal,bcl->bac", focus_BAL, flat_BCL).flatten(1)
        pooled_BD = torch.cat([flat_BCL.mean(-1), flat_BCL.amax(-1), focused_BD], dim=1)
        sizes = [*(len(classes) for classes in HEADS.values()), len(NUISANCES), 1]
        *logits, nuisances_BN, corrupt_B1 = self.heads(pooled_BD).split(sizes, dim=1)
        return Outputs(dict(zip(HEADS, logits, strict=True)), nuisances_BN, corrupt_B1[:, 0])
