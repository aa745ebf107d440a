"""What one process keeps warm between trials: the base, the caches, the probes, the base model's own samples.

A worker makes one `TrialResources` and cooks many recipes in it; recipes that share a base, images and prompts share
all that was computed for them. One base is held at a time, since two may not fit: a recipe with other weights
takes the place of the last one's. Knows nothing about sweeps.
"""

from __future__ import annotations

import contextlib
import gc
import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lorasweep.components import bases
from lorasweep.core import files, machine, paths, registry
from lorasweep.core.errors import InputError, Problem
from lorasweep.core.judging import Gallery
from lorasweep.core.protocols import Adapter, Base
from lorasweep.core.provenance import code_digest
from lorasweep.core.records import BaseOptions, MemoryOptions, Plan, Recipe, digest
from lorasweep.core.run_folder import INDEX_FILE
from lorasweep.plan import memory, sample_requests

if TYPE_CHECKING:
    from lorasweep.plan.sample_requests import ImageRequest
    from lorasweep.trial.cache import LatentCache, TextCache
    from lorasweep.trial.judge.context import JudgeContext
    from lorasweep.trial.judge.features import FeatureCache
    from lorasweep.trial.judge.probes import Probes
    from lorasweep.trial.judge.score import Kind
    from lorasweep.trial.sample import Sample


T = TypeVar("T")
RECENT = 4  # probes and galleries that are kept: trials of one sweep need one per dataset, base and bucket choice


def build_adapter(base: Base, recipe: Recipe, *, trained: bool = False) -> Adapter:
    """Put the recipe's adapter into `base`, fresh from its seed or from the file of `adapter.init`.

    With `trained` its weights are loaded next, so that the file which they began at is not read.

    Raises:
        AdapterError: it matches nothing in this base.
        InputError: the file does not fit.
    """
    options = {key: value for key, value in recipe.adapter.options.items() if not (trained and key == "init")}
    adapter: Adapter = registry.load("adapter", recipe.adapter.name).build(base, seed=recipe.seed, **options)
    return adapter


class TrialResources:
    """Loaded things, by what they depend on. Not safe for threads; one per process."""

    def __init__(self, *, sharers: int = 1, slots: int = 1) -> None:
        """Hold nothing yet; `sharers` processes have the device together, and `slots` trials are trained at a time."""
        self._sharers, self._slots = sharers, slots
        self.adapters: list[Adapter] = []  # of the trials that are at work; all of them live in the base
        self._held = ""  # the `_base_key` of the base in memory
        self._bases: dict[int, Base] = {}  # by clip_skip, all with the same modules
        self._caches: dict[int, tuple[LatentCache, TextCache]] = {}  # by clip_skip
        self._base_samples: dict[str, dict[ImageRequest, Sample]] = {}
        self._probes: OrderedDict[str, Probes] = OrderedDict()
        self._galleries: OrderedDict[str, Gallery] = OrderedDict()
        self._features: FeatureCache | None = None
        self._reader: Any = None

    def base(self, recipe: Recipe) -> Base:
        """Return the recipe's frozen base, loaded once for all that share weights, device and precision."""
        clip_skip = recipe.base.clip_skip
        with _without_collector():
            if (key := self._base_key(recipe)) != self._held:
                self._held = ""
                if self._bases:
                    self._bases.clear()
                    self._caches.clear()
                    gc.collect()  # modules refer to themselves, and their memory is wanted now
                self._bases[clip_skip] = _module(recipe).load(
                    recipe.base,
                    device=_device(recipe.train.device),
                    precision=recipe.train.precision,
                    memory=self._memory(recipe),
                    **({"sibling": recipe.sample.base} if recipe.sample.base else {}),
                )
                bases.compute_as(self._bases[clip_skip], recipe.compute)
                self._held = key
        if clip_skip not in self._bases:
            self._bases[clip_skip] = next(iter(self._bases.values())).with_clip_skip(clip_skip)
        return self._bases[clip_skip]

    def _base_key(self, recipe: Recipe) -> str:
        """Return what decides the modules in memory: prompts and `clip_skip` do not."""
        where = [_device(recipe.train.device), recipe.train.precision, self._memory(recipe)]
        return digest([recipe.base.name, bases.fingerprint(recipe), *where])

    def _memory(self, recipe: Recipe) -> MemoryOptions:
        """Return what is traded for room on the recipe's device; trials that share a base in use have the same."""
        import torch

        if self.adapters:
            return next(iter(self._bases.values())).memory
        device = _device(recipe.train.device)
        on_gpu = device.startswith("cuda")
        total = torch.cuda.get_device_properties(device).total_memory if on_gpu else machine.total_bytes()
        room = memory.Room(gib=total / memory.GIB / self._sharers, workers=self._sharers, on_gpu=on_gpu)
        return memory.resolve(recipe, room, slots=self._slots)

    def wake(self, adapter: Adapter | None) -> None:
        """Have this one of the adapters in the base act at weight 1, and no other."""
        for each in self.adapters:
            each.set_weight(float(each is adapter))

    def caches(self, recipe: Recipe) -> tuple[LatentCache, TextCache]:
        """Return latents and caption embeddings of the recipe's base, shared between processes by the disk."""
        from lorasweep.trial.cache import LatentCache, Store, TextCache

        base, store = self.base(recipe), Store(paths.cache())
        if base.clip_skip not in self._caches:
            self._caches[base.clip_skip] = (LatentCache(base, store), TextCache(base, store))
        return self._caches[base.clip_skip]

    def judge_context(
        self,
        recipe: Recipe,
        plan: Plan,
        *,
        adapter: Adapter,
        samples: Sequence[Sample],
        step: int,
        history: Sequence[Mapping[str, float]],
        fidelity: Kind | None = None,
        answers: dict[Any, Any] | None = None,
    ) -> JudgeContext:
        """Return everything that the metrics look at for one rung of one trial; `history` has the earlier rungs."""
        from lorasweep.trial.judge import gallery
        from lorasweep.trial.judge.context import JudgeContext

        base = self.base(recipe)
        latents, _ = self.caches(recipe)
        base_samples = self.base_samples(recipe, plan, adapter=adapter)
        return JudgeContext(
            base=base,
            adapter=adapter,
            recipe=recipe,
            plan=plan,
            probes=self.probes(recipe, plan, adapter=adapter),
            weight=recipe.sample.weight,
            samples=samples,
            base_samples=base_samples,
            reader=self._read_with(recipe.base),
            step=step,
            history=history,
            gallery=_recent(
                self._galleries,
                gallery.key(base, recipe, plan),
                lambda: gallery.build(base, recipe, plan, latents=latents, adapter=adapter),
            ),
            feature_cache=self._feature_cache(),
            fidelity=fidelity,
            answers={} if answers is None else answers,
        )

    def base_samples(
        self, recipe: Recipe, plan: Plan, link_into: Path | None = None, adapter: Adapter | None = None
    ) -> list[Sample]:
        """Find the base's images for the plan's prompts and the recipe's seeds; drawn once, cached.

        They are also copied, with their index, into `link_into`; the adapter that lives in the base is silenced while
        drawing.
        """
        from lorasweep.trial import sample

        base, options = self.base(recipe), recipe.sample
        wanted = sample_requests.by_base(recipe, plan)
        where = [str(base.dtype), base.device.type]  # devices round differently
        asked = [[vars(request) for request in wanted], options]
        key = digest([code_digest(), base.fingerprint, base.text_fingerprint, asked, *where])
        folder = paths.cache("base_samples") / key[:24]
        is_there, held = folder.exists(), self._base_samples.get(key)
        found = held if held and is_there else sample.read_whole(folder)
        if not found.keys() >= set(wanted):
            if is_there:  # but was cut short
                shutil.rmtree(folder, ignore_errors=True)
            images = sample.draw(base, adapter, wanted, options)  # at weight 0
            files.write_folder_once(
                folder,
                lambda temporary: sample.write(
                    temporary, wanted, images, base=base, options=options, adapter_file=None
                ),
            )
            found = sample.read_whole(folder)
        self._base_samples[key] = found
        if link_into is not None and not (link_into / INDEX_FILE).exists():
            files.write_folder_once(link_into, lambda temporary: shutil.copytree(folder, temporary, dirs_exist_ok=True))
        return list(found.values())

    def probes(self, recipe: Recipe, plan: Plan, adapter: Adapter | None = None) -> Probes:
        """Tell what every rung of every trial of this recipe's data is asked; `adapter` is silenced meanwhile."""
        from lorasweep.trial.judge import probe_builder, probes

        base, (latents, texts) = self.base(recipe), self.caches(recipe)
        return _recent(
            self._probes,
            probes.key(base, recipe, plan),
            lambda: probe_builder.build(
                base,
                recipe,
                plan,
                latents=latents,
                texts=texts,
                adapter=adapter,
                wanted=probes.wanted_by(recipe),
            ),
        )

    def _feature_cache(self) -> FeatureCache:
        """Keep features of pictures, of the base's and the dataset's once per machine, by their pixels."""
        from lorasweep.trial.cache import Store
        from lorasweep.trial.judge.features import FeatureCache

        if self._features is None:
            self._features = FeatureCache(Store(paths.cache()))
        return self._features

    def _read_with(self, base: BaseOptions) -> Any:
        """Return the dollhouse's reader on its bases, None elsewhere: no other has a ground truth."""
        if not getattr(registry.load("base", base.name), "READABLE", False):
            return None
        if self._reader is None:
            from lorasweep.dollhouse.reader.reader import Reader

            self._reader = Reader.load()
        return self._reader


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Import torch and diffusers without the garbage collector, which takes a fifth of that time and finds nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _recent(held: OrderedDict[str, T], key: str, build: Callable[[], T]) -> T:
    """Take what is held under a key, built when it is not; the `RECENT` last used stay."""
    if key not in held:
        held[key] = build()
    held.move_to_end(key)
    while len(held) > RECENT:
        held.popitem(last=False)
    return held[key]


def _module(recipe: Recipe) -> Any:
    return registry.load("base", recipe.base.name)


def _device(wanted: str) -> str:
    """Return the device that is meant.

    Raises:
        InputError: this machine has none of this name.
    """
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = wanted.partition(":")
    here = {"cpu": 1, "mps": int(torch.backends.mps.is_available()), "cuda": torch.cuda.device_count()}
    if int(index or 0) >= here[kind]:
        has = f"{here[kind]} of them" if here[kind] else "none, as far as the installed torch can tell"
        hint = "override: train.device=auto; `lorasweep doctor` says what is here"
        raise InputError(Problem("train.device", f"{wanted} is not here: this machine has {has}", hint))
    return wanted
