"""A slot: one recipe being cooked, with everything that is its own. The base and the caches are shared.

Recipe + Plan + base  ->  Slot, which `train.loop` advances and `train.checkpoint` saves.

A slot holds no generator. Every draw of optimizer step n comes from a generator seeded with
`seeds.derive(seed, use, n, ...)`, so a slot's future depends on its tensors and its step only: what resuming
has to restore, and what keeps slots of one process from disturbing each other.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from lorasweep.components.optimizers._knobs import UP
from lorasweep.core import registry, seeds
from lorasweep.core.protocols import Adapter, Base, Schedule, WeightAverage, WeightRegularizer
from lorasweep.core.records import Plan, PlannedImage, Recipe
from lorasweep.data.captions import rearranges, vary
from lorasweep.data.order import batches_per_epoch, epoch_steps
from lorasweep.trial import lora_weight
from lorasweep.trial.cache import LatentCache, TextCache
from lorasweep.trial.resources import build_adapter


@dataclass(kw_only=True, eq=False)
class Slot:
    """One recipe being cooked."""

    recipe: Recipe
    plan: Plan
    adapter: Adapter  # trainable tensors inside the shared base
    optimizer: torch.optim.Optimizer  # one param group per part of the model, with "name" and "initial_lr"
    schedule: Schedule  # lr of a group at a step
    brakes: tuple[WeightRegularizer, ...]  # called after each step, in the recipe's order, averages last
    scaler: torch.amp.GradScaler  # keeps small fp16 gradients from vanishing; does nothing when not enabled
    latents: LatentCache  # shared, as texts
    texts: TextCache
    logged: Callable[[torch.optim.Optimizer], Mapping[str, float]]  # what the optimizer has to say beside its lr
    weights_for_use: Callable[[torch.optim.Optimizer], AbstractContextManager[None]]  # see `for_use`
    step: int = 0  # optimizer steps done
    _epoch: tuple[int, list[list[list[int]]]] = field(default=(-1, []), init=False, repr=False)

    def __post_init__(self) -> None:
        options = self.recipe.train
        self._images = self.plan.trained_on()
        batches = batches_per_epoch(self._images, options.batch_size)
        self._steps_per_epoch = math.ceil(batches / options.gradient_accumulation)
        self.trains_text = lora_weight.trains_text(self.adapter)

    def batches(self) -> list[list[PlannedImage]]:
        """Return the batches of the next optimizer step: `gradient_accumulation`, or fewer at an epoch's end."""
        epoch, place = divmod(self.step, self._steps_per_epoch)
        return [[self._images[index] for index in batch] for batch in self._epoch_steps(epoch)[place]]

    def captions(self, images: Sequence[PlannedImage], *, batch: int) -> list[str]:
        """Return the captions that this exposure sees, shuffled and dropped as the recipe says."""
        rng = random.Random(self.seed_of("captions", batch))
        return [vary(image.caption, self.recipe.captions, rng) for image in images]

    def seed_of(self, use: str, batch: int) -> int:
        """Return the seed of one use of randomness in one batch of the next step."""
        return seeds.derive(self.recipe.seed, use, self.step, batch)

    def parameters(self) -> list[torch.nn.Parameter]:
        """List all trainable tensors."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def for_use(self) -> AbstractContextManager[None]:
        """Make the adapter's tensors, inside, those to judge and save.

        They are not those that train when the optimizer, or a brake, averages its iterates.
        """
        average = self.average
        return self.weights_for_use(self.optimizer) if average is None else average.for_use(self.adapter)

    @property
    def average(self) -> WeightAverage | None:
        """The brake that averages weights."""
        return next((brake for brake in self.brakes if isinstance(brake, WeightAverage)), None)

    def close(self) -> None:
        """Take the adapter out of the base."""
        self.adapter.remove()

    def _epoch_steps(self, epoch: int) -> list[list[list[int]]]:
        if self._epoch[0] != epoch:
            options = self.recipe.train
            steps = epoch_steps(
                self._images,
                batch_size=options.batch_size,
                accumulation=options.gradient_accumulation,
                seed=self.recipe.seed,
                epoch=epoch,
            )
            self._epoch = (epoch, steps)
        return self._epoch[1]


def make_slot(base: Base, recipe: Recipe, plan: Plan, *, latents: LatentCache, texts: TextCache) -> Slot:
    """Build a slot at step 0: adapter in the base, optimizer, schedule, brakes; caches warmed.

    Raises:
        AdapterError: the adapter matches nothing in this base.
    """
    adapter = build_adapter(base, recipe)
    try:
        return _assemble_slot(adapter, base, recipe, plan, latents, texts)
    except BaseException:
        adapter.remove()  # the base is shared: nothing of a slot that never was may stay in it
        raise


def _assemble_slot(
    adapter: Adapter, base: Base, recipe: Recipe, plan: Plan, latents: LatentCache, texts: TextCache
) -> Slot:
    """Put everything around an adapter that a slot needs, and warm the caches."""
    optimizers = registry.load("optimizer", recipe.optimizer.name)
    slot = Slot(
        recipe=recipe,
        plan=plan,
        adapter=adapter,
        optimizer=optimizers.build(_by_rate(adapter, recipe), **recipe.optimizer.options),
        schedule=registry.load("scheduler", recipe.scheduler.name).build(plan.steps, **recipe.scheduler.options),
        brakes=_brakes(recipe),
        scaler=torch.amp.GradScaler(base.device.type, enabled=recipe.train.precision == "fp16"),
        latents=latents,
        texts=texts,
        logged=getattr(optimizers, "logged", lambda optimizer: {}),
        weights_for_use=getattr(optimizers, "weights_for_use", lambda optimizer: nullcontext()),
    )
    if slot.average is not None:
        slot.average.start(adapter)
    images = plan.trained_on()
    latents.warm(images)
    if not slot.trains_text and not rearranges(recipe.captions):
        dropped = [""] if recipe.captions.dropout > 0 else []
        texts.warm([*(image.caption for image in images), *dropped])
    return slot


def _by_rate(adapter: Any, recipe: Recipe) -> Mapping[str, Sequence[torch.nn.Parameter]]:
    """Return trainable tensors by part; with LoRA+ the second factors apart, as `<part>` + UP."""
    if recipe.optimizer.options.get("loraplus_lr_ratio") is None:
        parts: Mapping[str, Sequence[torch.nn.Parameter]] = adapter.parameters()
        return parts
    second, found = registry.load("adapter", recipe.adapter.name).SECOND_FACTOR, defaultdict(list)
    for key, parameter in adapter.named_parameters():
        part = key.split(".", 1)[0]
        found[f"{part}{UP}" if f".{second}." in key else part].append(parameter)
    return found


def _brakes(recipe: Recipe) -> tuple[WeightRegularizer, ...]:
    """Return the regularizers that act on the weights; what the others add is in the plan already."""
    built = [registry.load("regularization", name).build(**knobs) for name, knobs in recipe.regularization.items()]
    found = [regularizer for regularizer in built if isinstance(regularizer, WeightRegularizer)]
    return tuple(sorted(found, key=lambda brake: isinstance(brake, WeightAverage)))
