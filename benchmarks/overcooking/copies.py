"""Is a picture nearer to the training images than chance allows? Pure numpy.

A training image and a fresh render of the same attributes are drawn by one and the same process; to a model
that copies nothing they are exchangeable. So the training set competes with replicas of itself, F of them, in
which every image shows the same attributes with another position, scale and light: a picture is a copy when it
is nearer to the training set than to every replica. That happens by chance once in F + 1 times, exactly, however
blurred, average or wrong the picture is. To be called a copy it must be nearer by far: see `NEAR`.

Letters: N pictures, T training images, F replicas, H W C pixels.
"""

from __future__ import annotations

from typing import Final

import numpy as np

NEAR: Final = 0.8
"""`nearness` below which a picture is a copy.

Replicas in the place of the training set are below 0.88 once in a thousand, and a training image that went
through the VAE and back is below 0.5. Without it, an adapter that draws everything a little to the left, as
its training images happen to be on average, would be a copier.
"""


def pixel_distances(pictures_NHWC: np.ndarray, others_THWC: np.ndarray) -> np.ndarray:
    """Compute the root mean squared error of every picture to every other; (N, T), in units of the pixels."""
    flat_NP = pictures_NHWC.reshape(len(pictures_NHWC), -1).astype(np.float64)
    flat_TP = others_THWC.reshape(len(others_THWC), -1).astype(np.float64)
    squares_NT = (flat_NP**2).sum(1)[:, None] + (flat_TP**2).sum(1)[None] - 2 * flat_NP @ flat_TP.T
    return np.sqrt(np.maximum(squares_NT, 0.0) / flat_NP.shape[1])


def nearness(pictures_NHWC: np.ndarray, training_THWC: np.ndarray, replicas_FTHWC: np.ndarray) -> np.ndarray:
    """Divide the distance to the nearest training image by that to the nearest image of any replica; (N,).

    Around 1.1 for a picture that copies nothing, since the replicas are many; 0 for a training image.
    """
    own_N = pixel_distances(pictures_NHWC, training_THWC).min(axis=1)
    theirs_FN = np.stack([pixel_distances(pictures_NHWC, one_THWC).min(axis=1) for one_THWC in replicas_FTHWC])
    found: np.ndarray = own_N / theirs_FN.min(axis=0)
    return found
