"""How close a picture is to the nearest training image, and when that is too close. Pure numpy.

Distances are root mean squared errors in [0, 1], each divided by what is usual for that training image (the
median distance of fresh renders of the same attributes), so that one limit serves plain and busy images.

Letters: N pictures, T training images, F fresh renders of one training image, H W C pixels, K nuisances.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CHANCE = 0.05  # share of faithful, non-copying pictures that are called copies, by construction


@dataclass(frozen=True, kw_only=True)
class Copies:
    """What counts as a copy of one dataset.

    Attributes:
        usual_T: median distance of each training image's fresh renders.
        pixel_limit: quantile `CHANCE` of the fresh renders' nearest scaled distances.
        nuisance_limit: the same of the largest difference in any nuisance.
    """

    usual_T: np.ndarray
    pixel_limit: float
    nuisance_limit: float


def pixel_distances(pictures_NHWC: np.ndarray, training_THWC: np.ndarray) -> np.ndarray:
    """Root mean squared error of every picture to every training image; (N, T), in [0, 1]."""
    flat_NP = pictures_NHWC.reshape(len(pictures_NHWC), -1).astype(np.float64)
    flat_TP = training_THWC.reshape(len(training_THWC), -1).astype(np.float64)
    squares_NT = (flat_NP**2).sum(1)[:, None] + (flat_TP**2).sum(1)[None] - 2 * flat_NP @ flat_TP.T
    return np.sqrt(np.maximum(squares_NT, 0.0) / flat_NP.shape[1])


def nearest(distances_NT: np.ndarray, usual_T: np.ndarray) -> np.ndarray:
    """Distance to the nearest training image, each scaled by what is usual for it; (N,)."""
    scaled: np.ndarray = (distances_NT / usual_T[None]).min(axis=1)
    return scaled


def nuisance_gaps(pictures_NK: np.ndarray, own_NK: np.ndarray) -> np.ndarray:
    """Largest difference in any nuisance between each picture and the image whose caption it had; (N,)."""
    gaps: np.ndarray = np.abs(pictures_NK - own_NK).max(axis=1)
    return gaps


def calibrate(
    fresh_TFHWC: np.ndarray, training_THWC: np.ndarray, fresh_TFK: np.ndarray, training_TK: np.ndarray
) -> Copies:
    """Set the limits from pictures that show what the training images show and copy none of them."""
    trained, renders = fresh_TFHWC.shape[:2]
    distances_NT = pixel_distances(
        fresh_TFHWC.reshape(trained * renders, *fresh_TFHWC.shape[2:]), training_THWC
    )
    own_TF = distances_NT.reshape(trained, renders, trained)[np.arange(trained), :, np.arange(trained)]
    usual_T = np.median(own_TF, axis=1)
    gaps_N = nuisance_gaps(fresh_TFK.reshape(trained * renders, -1), np.repeat(training_TK, renders, axis=0))
    return Copies(
        usual_T=usual_T,
        pixel_limit=float(np.quantile(nearest(distances_NT, usual_T), CHANCE)),
        nuisance_limit=float(np.quantile(gaps_N, CHANCE)),
    )
