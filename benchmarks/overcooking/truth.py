"""From what the witness read to the truth about one checkpoint. Pure arithmetic on lists; imports no torch.

    testimony (per-picture readings)  +  the base's testimony  ->  Truth

Five ways of being overcooked, each as an excess over its limit, so that 1 is the limit:

    copies   share of pictures of training captions that are nearer by far to the training images than to
             every one of many replicas of them
    bleed    likeness of strangers to the subject, above the base's
    control  share of asked attributes that was lost on recombined prompts, relative to the base
    variety  share of the base's variety that was lost on the plain prompt
    corrupt  probability that a stranger is no clean picture, above the base's

    O* = min(1, worst / 2)          0 untouched, 0.5 at a limit, 1 at twice a limit
    U* = F* (1 - O*)                overcooked means O* > 0.5

F* is the likeness on recombined and plain prompts over the base's. Definitions follow Okawa et al. (arXiv
2310.09336) in reading factors back one by one.

A training image and a fresh render of the same attributes are drawn by one and the same process; to a model
that copies nothing they are exchangeable. So the training set competes with replicas of itself, F of them, in
which every image shows the same attributes with another position, scale and light: a picture is a copy when it
is nearer to the training set than to every replica. That happens by chance once in F + 1 times, exactly, however
blurred, average or wrong the picture is. To be called a copy it must be nearer by far: see `NEAR`.

Letters: N pictures, T training images, F replicas, H W C pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any, Final

import numpy as np
from scipy.stats import entropy

LIMITS: Final[dict[str, float]] = {"copies": 0.10, "bleed": 0.10, "control": 0.20, "variety": 0.40, "corrupt": 0.10}
"""From the study's definition: control below 0.8 of the base's, bleed above 0.1, variety below 0.6.

Copies and corruption are allowed 0.10, rather than 0.05, because a dozen pictures a rung cannot tell 0.05
from 0: healthy checkpoints would be called overcooked for one unlucky picture.
"""

NEAR: Final = 0.8
"""`nearness` below which a picture is a copy.

Replicas in the place of the training set are below 0.88 once in a thousand, and a training image that went
through the VAE and back is below 0.5. Without it, an adapter that draws everything a little to the left, as
its training images happen to be on average, would be a copier.
"""
FEWEST_OPEN: Final = 24  # bare prompts, to know how much of what they show has changed
LEARNED: Final = 0.1  # likeness gained by being called, from which it makes sense to ask who called
Testimony = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What one checkpoint is.

    Attributes:
        worst: the largest of them.
        extra: what is read besides: likeness uncalled, and its share of the likeness called (NaN before there
            is any); how much of strangers was altered (features of the subject gained, asked ones lost); how
            much of what the base draws uncalled, from the same noise, is drawn otherwise (NaN from few pictures).
    """

    identity: float  # F*, in [0, 1]
    excess: dict[str, float]  # by symptom, over its limit; >= 0, 1 at the limit
    extra: dict[str, float]

    @property
    def worst(self) -> float:
        """The largest excess."""
        return max(self.excess.values())

    @property
    def harm(self) -> float:
        """O*, in [0, 1]."""
        return min(1.0, self.worst / 2.0)

    @property
    def overcooked(self) -> bool:
        """Whether any symptom is past its limit."""
        return self.worst > 1.0

    @property
    def utility(self) -> float:
        """U*, in [0, 1]."""
        return self.identity * (1.0 - self.harm)


def judge(testimony: Testimony, base: Testimony) -> Truth:
    """Weigh what was read of one checkpoint against what was read of the base on the same questions.

    Args:
        testimony: `groups` by name, each with per-picture lists `likeness`, `corrupt`, `hits` and `shown`;
            `copied` with the list `nearness`, absent when no image of the subject was trained on.
        base: the same of the base, without the group `trained`.
    """
    groups, by_base = testimony["groups"], base["groups"]
    chance = _likeness(by_base, "recombined", "plain")
    called = _likeness(groups, "recombined", "plain") - chance
    uncalled = _likeness(groups, "open") - _likeness(by_base, "open")
    bleed = _likeness(groups, "stranger") - _likeness(by_base, "stranger")
    found = {
        # Nothing can be copied where no image of the subject was trained on.
        "copies": _mean([float(near < NEAR) for near in testimony.get("copied", {}).get("nearness", [1.0])]),
        "bleed": bleed,
        "control": _lost(groups, by_base, "recombined"),
        "variety": 1.0 - _ratio(variety(groups["plain"]["shown"]), variety(by_base["plain"]["shown"])),
        # Over strangers: with the trigger, a subject that is half learned is no clean picture either.
        "corrupt": _mean(groups["stranger"]["corrupt"]) - _mean(by_base["stranger"]["corrupt"]),
    }
    return Truth(
        identity=max(0.0, called / (1.0 - chance)),
        excess={name: max(0.0, value) / LIMITS[name] for name, value in found.items()},
        extra={
            "bleed_open": uncalled,
            "uncalled": uncalled / called if called > LEARNED else nan,
            "changed_open": _changed(groups["open"]["shown"], by_base["open"]["shown"]),
            "altered": bleed + max(0.0, _lost(groups, by_base, "stranger")),
        },
    )


def halves(testimony: Testimony, base: Testimony) -> tuple[Truth, Truth]:
    """The truth by every other picture, and by those in between: two witnesses who saw nothing in common."""
    first, second = (judge(_every_other(testimony, k), _every_other(base, k)) for k in (0, 1))
    return first, second


def _likeness(groups: Mapping[str, Any], *names: str) -> float:
    """Mean over all pictures of some groups."""
    return _mean([value for name in names for value in groups[name]["likeness"]])


def _changed(shown: Sequence[Sequence[str]], by_base: Sequence[Sequence[str]]) -> float:
    """Share of attributes that are not what the base shows for the same prompt and noise, in [0, 1]."""
    if len(shown) < FEWEST_OPEN:
        return nan
    pairs = [pair for mine, base in zip(shown, by_base, strict=True) for pair in zip(mine, base, strict=True)]
    return _mean([float(mine != base) for mine, base in pairs])


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
    return own_N / theirs_FN.min(axis=0)


def variety(shown: Sequence[Sequence[str]]) -> float:
    """Effective number of values that vary freely, averaged over the attributes that the prompt leaves open; >= 1.

    By exp of the entropy; `shown` has the attributes' values per picture.
    """
    columns = list(zip(*shown, strict=True))
    return _mean([float(np.exp(entropy(list(Counter(column).values())))) for column in columns])


def hit_rate(hits: Sequence[Sequence[bool]]) -> float:
    """Share of asked attributes that show, every attribute weighing the same."""
    return _mean([float(hit) for picture in hits for hit in picture])


def _every_other(testimony: Testimony, start: int) -> Testimony:
    """The same with half of the pictures of every group."""

    def thin(found: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value[start::2] for key, value in found.items() if isinstance(value, list)}

    left: dict[str, Any] = {"groups": {name: thin(group) for name, group in testimony["groups"].items()}}
    return left | ({"copied": thin(testimony["copied"])} if "copied" in testimony else {})


def _lost(groups: Mapping[str, Any], by_base: Mapping[str, Any], name: str) -> float:
    """Share of the asked attributes that the base shows and this does not."""
    return 1.0 - _ratio(hit_rate(groups[name]["hits"]), hit_rate(by_base[name]["hits"]))


def _ratio(value: float, reference: float) -> float:
    return value / reference if reference > 0 else 1.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
