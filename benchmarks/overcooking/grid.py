"""Which recipes are cooked, with which identity and seed, in which order. Plain data; imports no torch.

A designed fraction of the full product: one dial at a time around a centre, two corners, a Latin hypercube,
and recipes that burn slowly. Runs come in blocks: a block cooks every recipe once, with identities and seeds
dealt out in turn, so that whatever share of the grid a budget pays for is balanced over both.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from scipy.stats import qmc

from lorasweep.core.seeds import derive
from lorasweep.dollhouse.world import SUBJECTS

IDENTITIES: Final[dict[str, tuple[str, ...]]] = {
    "by_hand": tuple(SUBJECTS)[:4],
    "drawn": tuple(SUBJECTS)[4:],
    "all": tuple(SUBJECTS),
}
SEEDS: Final[tuple[int, ...]] = (0, 1, 2)

CENTRE: Final = {"lr": 4e-3, "dim": 16, "images": 20, "confound": 0.5, "dropout": 0.0, "adapter": "lora"}
"""The recipe around which dials are turned; its lr is such that most runs are done within their steps."""

DIALS: Final[dict[str, tuple[Any, ...]]] = {
    "lr": (1e-3, 2e-3, 8e-3, 1.6e-2, 3.2e-2),
    "dim": (4, 64),
    "images": (8, 40),
    "confound": (0.0, 1.0),
    "dropout": (0.1, 0.3),
    "adapter": ("locon", "dora", "loha"),
}
"""Values of each dial beside the centre's."""

CORNERS: Final[dict[str, dict[str, Any]]] = {
    "corner-greedy": {"lr": 1e-2, "dim": 64, "images": 8, "confound": 1.0},
    "corner-careful": {"lr": 1e-3, "dim": 4, "images": 40, "confound": 0.0, "dropout": 0.1},
}
HYPERCUBE_POINTS: Final[int] = 6
SLOW_BURNS: Final[dict[str, dict[str, Any]]] = {
    "slow-burn": {"lr": 1.1e-2},
    "slow-burn-wide": {"lr": 8e-3, "dim": 32},
    "slow-burn-confounded": {"lr": 1e-2, "images": 12, "confound": 1.0},
}
"""Between rates that stay healthy and rates that are ruined at the first rung: here a run shows all of it."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One setting of the dials."""

    name: str
    dials: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One recipe with one identity and one seed; `planted` names a control that needs no training."""

    name: str  # of its folder
    recipe: Recipe
    identity: str
    seed: int
    overrides: tuple[str, ...]
    planted: str = ""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all runs of a home share."""

    steps: int = 240
    rungs: int = 6  # how often a run is judged
    base: str = "dollhouse"  # on which it is trained
    lr_times: float = 1.0  # by what every learning rate is multiplied, since what is a high one depends on the base
    identities: tuple[str, ...] = IDENTITIES["by_hand"]  # those that runs are dealt

    @property
    def dealt(self) -> str:
        """What `IDENTITIES` calls them."""
        return next(name for name, them in IDENTITIES.items() if them == self.identities)


def recipes() -> list[Recipe]:
    """List every setting: centre, lr, corners, the other dials, the hypercube, what burns slowly."""
    turned = {dial: {f"{dial}-{it}": {dial: it} for it in values} for dial, values in DIALS.items()}
    rates = turned.pop("lr")
    others = {name: dials for each in turned.values() for name, dials in each.items()}
    every: dict[str, dict[str, Any]] = {"centre": {}} | rates | CORNERS | others | _hypercube() | SLOW_BURNS
    return [Recipe(name=name, dials=CENTRE | dials) for name, dials in every.items()]


def runs(*, setting: Setting) -> list[Run]:
    """List every run of the grid in the order in which it is trained.

    In block b the i-th recipe has identity number i + b and seed number i // identities + b, both modulo how many
    there are; 4 or 8 identities and 3 seeds share no factor, so the blocks cover every combination once.
    """
    every, count = recipes(), len(setting.identities)
    return [
        run(
            recipe,
            identity := setting.identities[(i + block) % count],
            seed := SEEDS[(i // count + block) % len(SEEDS)],
            f"dataset.dollhouse.subject='{identity}'",
            f"dataset.dollhouse.images={recipe.dials['images']}",
            f"dataset.dollhouse.confound={recipe.dials['confound']:g}",
            f"dataset.dollhouse.seed={seed + 2}",  # 2 is the config's own: every background at least twice
            setting=setting,
        )
        for block in range(count * len(SEEDS))
        for i, recipe in enumerate(every)
    ]


def run(recipe: Recipe, identity: str, seed: int, *dataset: str, setting: Setting) -> Run:
    """Make the run of a recipe on a dataset, which some `KEY=VALUE`s name."""
    words = (*dataset, *overrides(recipe.dials, seed=seed, setting=setting))
    name = f"{recipe.name}_{identity.replace(' ', '-')}_s{seed}"
    return Run(name=name, recipe=recipe, identity=identity, seed=seed, overrides=words)


SAMPLING: Final = {
    "dollhouse": ("sample.sampler=dpmpp_2m", "sample.steps=10"),
    "dollhouse_flow": ("sample.sampler=euler", "sample.steps=12"),
}
"""The fewest steps in which a base draws as well as in 20."""

SETTLED_ON = 122  # runs, the first of the grid, that were looked at before the score was last changed


@lru_cache
def had_a_say(setting: Setting) -> frozenset[str]:
    """Names of the runs at which score and rule were made."""
    first = (setting.base, setting.identities) == (Setting.base, Setting.identities)
    return frozenset(run.name for run in runs(setting=setting)[:SETTLED_ON]) if first else frozenset()


def overrides(dials: dict[str, Any], *, seed: int, setting: Setting) -> list[str]:
    """The dials, the seed and the setting as `KEY=VALUE`s; the dataset is the caller's."""
    adapter = dials["adapter"]
    dim = min(dials["dim"], 32) if adapter == "loha" else dials["dim"]  # its rank is dim squared
    conv = [f"adapter.conv_dim={dim}", f"adapter.conv_alpha={dim / 2:g}"] if adapter == "locon" else []
    return [
        f"seed={seed}",
        f"base={setting.base}",
        f"optimizer.lr={dials['lr'] * setting.lr_times:.6g}",
        f"adapter={adapter}",
        f"adapter.dim={dim}",
        f"adapter.alpha={dim / 2:g}",
        *conv,
        f"captions.dropout={dials['dropout']:g}",
        "scheduler=constant",  # one run then gives the whole steps axis
        f"train.max_steps={setting.steps}",
        f"train.rungs={setting.rungs}",
        *SAMPLING[setting.base],
        "sample.seeds=[0,1]",
        "sample.rung_seeds=[0,1]",  # rungs are judged on as many pictures as the end
        "sample.weights=[0.7]",
        "metrics.identity.also=[base]",  # what the reader answers, the base answers as well
        "metrics.prompt_control.also=[base]",
        "tracking=none",
        "train.device=cpu",
    ]


def _hypercube() -> dict[str, dict[str, Any]]:
    """Draw points that spread over all dials at once; the same ones every time."""
    unit = qmc.LatinHypercube(d=6, rng=derive(0, "hypercube") % 2**32).random(HYPERCUBE_POINTS)
    return {
        f"cube-{place}": {
            "lr": float(1e-3 * 24**lr),  # log-uniform
            "dim": int(2 ** round(2 + 4 * dim)),
            "images": int(round(8 + 32 * images)),
            "confound": round(float(confound), 2),
            "dropout": round(0.3 * float(dropout), 2),
            "adapter": ("lora", "locon")[int(2 * adapter)],
        }
        for place, (lr, dim, images, confound, dropout, adapter) in enumerate(unit)
    }
