"""Strengths from choices between two, of which both may be as good, or both bad. Pure statistics.

    choices (left, right, answer)  ->  log strengths with their covariance

Letters: N choices, K items, P = K + 2 parameters. With strengths a and b, what is answered is as likely as

    left : right : tie : both bad  =  a : b : nu sqrt(a b) : beta

The first three are Davidson's model of ties (J. Am. Stat. Assoc. 65, 1970), Bradley and Terry's without them. The
fourth is an option outside of the pair (McFadden's logit, 1974): it says nothing about which of the two is
better, but that both are weak. Beta is the strength of a picture that is as likely to be rejected as to be
chosen; what is weaker is called ruined. Who never ties, or never rejects, has no nu, or no beta.

Every log strength, log nu and log beta has the prior N(0, 2): it weighs little beside a handful of answers, and
keeps what never lost finite. Strengths are those of highest posterior density; their covariance is the inverse
of the information there, the prior's included. Knows nothing about pictures or files.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

ANSWERS = ("left", "right", "tie", "both_bad")
PRIOR_SD = 2.0  # of a log strength: one in six is more than 7.4 times as strong as the average
Z95 = 1.96
Z_SETTLED = 2.8  # as one looks after every answer: two equal items are told apart within 60 answers in 5 %
DRAWS = 2000

Choice = tuple[str, str, str]  # left item, right item, one of ANSWERS


@dataclass(frozen=True, eq=False)
class Strengths:
    """What choices say of some items."""

    items: tuple[str, ...]  # K names
    log_P: np.ndarray  # log strengths of the items around their prior's mean, log nu, log beta
    covariance_PP: np.ndarray  # of these
    rejects: bool  # whether anything was called bad, so that there is a beta
    posterior: _Posterior  # what they were fitted to

    @property
    def order(self) -> list[str]:
        """Items, the strongest first."""
        return [self.items[place] for place in np.argsort(-self.log_P[: len(self.items)], kind="stable")]

    def against_average(self, item: str) -> tuple[float, float]:
        """Log strength over the mean of all items, and its standard error."""
        contrast_P = np.zeros(len(self.log_P))
        contrast_P[: len(self.items)] = -1 / len(self.items)
        contrast_P[self.items.index(item)] += 1
        return self._contrast(contrast_P)

    def difference(self, one: str, other: str) -> tuple[float, float]:
        """Log strength of one over the other, and its standard error."""
        contrast_P = np.zeros(len(self.log_P))
        contrast_P[self.items.index(one)] += 1
        contrast_P[self.items.index(other)] -= 1
        return self._contrast(contrast_P)

    def information(self, one: str, other: str) -> float:
        """Tell how much two would teach: most where they are close, or little known, and not both bad."""
        error = self.difference(one, other)[1]
        ours, theirs = (math.exp(self.log_P[self.items.index(item)]) for item in (one, other))
        total = ours + theirs + (math.exp(self.log_P[-1]) if self.rejects else 0.0)
        return error**2 * ((ours + theirs) / total - ((ours - theirs) / total) ** 2) / 4

    def is_ruined(self, item: str, *, surely: bool = False) -> bool:
        """Tell whether it is more likely to be rejected than to be chosen; `surely`: with a confidence of 97.5 %."""
        contrast_P = np.zeros(len(self.log_P))
        contrast_P[self.items.index(item)], contrast_P[-1] = 1, -1
        gap, error = self._contrast(contrast_P)
        return self.rejects and gap + surely * Z95 * error < 0

    @property
    def settled(self) -> bool:
        """Whether every item is told apart from the next one; what is surely ruined needs no order."""
        pairs = itertools.pairwise(self.order)
        return all(self.evidence(*pair) > Z_SETTLED for pair in pairs if not self.is_ruined(pair[0], surely=True))

    def evidence(self, one: str, other: str) -> float:
        """Return, in standard errors, how much worse choices are explained when two items are equally strong.

        The root of the likelihood ratio: where one always wins, its strength has no end, and Wald's ratio sees little.
        """
        places = [self.items.index(item) for item in (one, other)]
        equal = self.posterior.merged(*places)
        lost = equal.cost(equal.mode())[0] - self.posterior.cost(self.log_P)[0]
        return math.sqrt(2 * max(0.0, lost))

    def rank_correlation(self, values: Mapping[str, float], *, same: float) -> tuple[float, float, float] | None:
        """Compute Kendall's tau between strengths and values, and its 95 % interval over what strengths may be.

        Items without a value are left out; values that differ by less than `same` are equal, and say nothing about the
        order of their items. None when no two values differ.
        """
        places = [place for place, item in enumerate(self.items) if item in values]
        value_K = np.array([values[self.items[place]] for place in places])
        above_KK = np.sign(value_K[:, None] - value_K[None]) * (np.abs(value_K[:, None] - value_K[None]) >= same)
        if not above_KK.any():
            return None
        chance = np.random.default_rng(0)
        drawn_DP = chance.multivariate_normal(self.log_P, self.covariance_PP, DRAWS)
        strength_DK = np.vstack([self.log_P, drawn_DP])[:, places]
        agree_D = (np.sign(strength_DK[:, :, None] - strength_DK[:, None]) * above_KK).sum((1, 2))
        tau_D = agree_D / np.abs(above_KK).sum()
        low, high = np.quantile(tau_D[1:], [0.025, 0.975])
        return float(tau_D[0]), float(low), float(high)

    def _contrast(self, contrast_P: np.ndarray) -> tuple[float, float]:
        variance = float(contrast_P @ self.covariance_PP @ contrast_P)
        return float(contrast_P @ self.log_P), math.sqrt(variance)


def fit(items: Sequence[str], choices: Sequence[Choice], *, prior_sd: float = PRIOR_SD) -> Strengths:
    """Fit the strengths of some items to the choices between them, of which there may be none yet."""
    place = {item: number for number, item in enumerate(items)}
    answered_N = np.array([ANSWERS.index(answer) for _, _, answer in choices], dtype=int)
    there = [0, 1, *(option for option in (2, 3) if option in answered_N)]
    design_NOP = np.zeros((len(choices), len(ANSWERS), len(items) + 2))
    for row, (left, right, _) in enumerate(choices):
        design_NOP[row, 0, place[left]] = design_NOP[row, 1, place[right]] = 1
        design_NOP[row, 2, [place[left], place[right]]] = 0.5
    design_NOP[:, 2, -2] = design_NOP[:, 3, -1] = 1
    observed_P = design_NOP[np.arange(len(choices)), answered_N].sum(0)
    posterior = _Posterior(design_NOP[:, there], observed_P, np.eye(len(items) + 2) / prior_sd**2)
    log_P = posterior.mode()
    covariance_PP = np.linalg.inv(posterior.cost(log_P)[2])
    return Strengths(tuple(items), log_P, covariance_PP, rejects=3 in there, posterior=posterior)


@dataclass(frozen=True, eq=False)
class _Posterior:
    """What was shown and answered: a row of the design an option, as linear in the parameters as their logits are."""

    design_NOP: np.ndarray
    observed_P: np.ndarray
    prior_PP: np.ndarray  # precision

    def mode(self) -> np.ndarray:
        """Return the parameters of highest density."""
        from scipy.optimize import minimize

        start_P = np.zeros(len(self.observed_P))
        found = minimize(lambda log_P: self.cost(log_P)[:2], start_P, jac=True, method="trust-exact",
                         hess=lambda log_P: self.cost(log_P)[2], options={"gtol": 1e-6})  # fmt: skip
        return np.asarray(found.x)

    def cost(self, log_P: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Return the negative log density, its gradient, its Hessian."""
        from scipy.special import logsumexp, softmax

        utility_NO = self.design_NOP @ log_P
        chance_NO = softmax(utility_NO, axis=1)
        expected_NP = np.einsum("no,nop->np", chance_NO, self.design_NOP)
        value = logsumexp(utility_NO, axis=1).sum() - self.observed_P @ log_P + log_P @ self.prior_PP @ log_P / 2
        gradient_P = expected_NP.sum(0) - self.observed_P + self.prior_PP @ log_P
        second_PP = np.einsum("no,nop,noq->pq", chance_NO, self.design_NOP, self.design_NOP, optimize=True)
        return float(value), gradient_P, second_PP - expected_NP.T @ expected_NP + self.prior_PP

    def merged(self, one: int, other: int) -> _Posterior:
        """Return it with two items that are equally strong."""
        merge_PQ = np.delete(np.eye(len(self.observed_P)), other, axis=1)
        merge_PQ[other, one - (one > other)] = 1
        prior_QQ = merge_PQ.T @ self.prior_PP @ merge_PQ
        return _Posterior(self.design_NOP @ merge_PQ, self.observed_P @ merge_PQ, prior_QQ)


def share_interval(agreed: int, of: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson, J. Am. Stat. Assoc. 22, 1927); `of` > 0."""
    middle = (agreed + Z95**2 / 2) / (of + Z95**2)
    half = Z95 / (of + Z95**2) * math.sqrt(agreed * (of - agreed) / of + Z95**2 / 4)
    return max(0.0, middle - half), min(1.0, middle + half)
