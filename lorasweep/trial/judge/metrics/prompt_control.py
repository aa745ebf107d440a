"""C: does the prompt still decide? And does the subject stay away where it was not called?

**Control**, on prompts that combine the trigger with what the dataset never showed. On the dollhouse the
reader says which of the asked attributes appear. On any other base a picture obeys when it fits its own
prompt better than every other recombined prompt and every training caption, the trigger left out of all of
them: an adapter that falls back to its training scenes fits a training caption instead. CLIP says what fits
when a copy is configured, else the base itself as a classifier. `prompt_control/score` is that accuracy over
the base's for the same prompts and seeds, so that what the base cannot draw is not held against the adapter.

**Bleed** says how much more of the subject shows without the trigger than in the base's own pictures: by the
reader, or by the likeness to the training images on the scale of F. `bleed_class` is about somebody else of
the subject's kind. Where the class prompts are captions with the trigger left out, as they are when nobody
wrote others, they leave open who comes, and it is called `bleed_plain`. That and `bleed_unrelated` rise
first and far, in any recipe without regularisation images: the subject becomes the default person.

Source: the compositional accuracy of Okawa et al. (arXiv 2310.09336) as a ratio to the base; the diffusion
classifier of Li et al. (arXiv 2303.16203); bleed is DreamBooth's prior-preservation idea (arXiv 2208.12242).
Departure: the base is shown the prompt with the trigger, which to it is a meaningless word, so that both
start from the very same picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from lorasweep.core.records import PROMPT_TIERS, Measurement
from lorasweep.data.captions import are_plain, without_trigger
from lorasweep.dollhouse.world.attributes import INTRINSIC
from lorasweep.trial.judge import dolls, resemblance
from lorasweep.trial.judge.encoders import choose

if TYPE_CHECKING:
    from PIL import Image

    from lorasweep.core.records import Plan, PromptTier, Recipe
    from lorasweep.dollhouse.world.subjects import Subject
    from lorasweep.trial.judge.context import JudgeContext
    from lorasweep.trial.judge.encoders import Encoder as PictureEncoder
    from lorasweep.trial.sample import Sample

NAME = "prompt_control"
Encoder = Literal["auto", "reader", "clip", "base"]
WHY_NO_STRANGERS = (
    "the class prompts are captions without the trigger, which leave open who comes: "
    "name several others in dataset.prompts.class"
)
CAPTIONS = 3  # training captions that a picture may fall back to
Pictures = Sequence[tuple["Sample", "Image.Image"]]


@dataclass(frozen=True, kw_only=True)
class PromptControl:
    """See the module."""

    min_base_accuracy: float
    encoder: Encoder
    also: tuple[Encoder, ...]
    needs_samples = True

    def measure(self, context: JudgeContext) -> Measurement:
        """Measure both by the encoder that counts, and by others under names ending in theirs."""
        found = self._by(context, self.encoder)
        for encoder in self.also:
            other = self._by(context, encoder)
            found.values.update(_suffixed(other.values, encoder))
            found.missing.update(_suffixed(other.missing, encoder))
        return found

    def _by(self, context: JudgeContext, encoder: Encoder) -> Measurement:
        subject = dolls.subject_of(context)
        if encoder == "reader" or (encoder == "auto" and subject is not None):
            if subject is None:
                names = (f"{NAME}/score", *_uncalled(context))
                return Measurement(missing=dict.fromkeys(names, dolls.UNREADABLE))
            control = self._control(*(accuracy(context, both) for both in _recombined(context)))
            bleed = _bleed_by_reader(context, subject)
        else:
            control = self._control_by_fit(context, encoder)
            bleed = _bleed_by_resemblance(context)
        return Measurement(values=control.values | bleed.values, missing=control.missing | bleed.missing)

    def _control(self, adapted: float | None, base: float | None) -> Measurement:
        """The score, from the two accuracies."""
        if adapted is None or base is None:
            reason = "no pictures of recombined prompts, or none by the base"
            return Measurement(missing={f"{NAME}/score": reason})
        found = Measurement(values={f"{NAME}/accuracy": adapted, f"{NAME}/base_accuracy": base})
        if base < self.min_base_accuracy:
            found.missing[f"{NAME}/score"] = f"the base obeys too little to compare with: {base:.2f}"
        else:
            found.values[f"{NAME}/score"] = adapted / base
        return found

    def _control_by_fit(self, context: JudgeContext, encoder: Encoder) -> Measurement:
        prompts, rivals = _candidates(context)
        if len(prompts) + len(rivals) < 2:
            reason = "needs a second recombined prompt or a training caption to tell a prompt from"
            return Measurement(missing={f"{NAME}/score": reason})
        fit = _fit(context, encoder, (*prompts, *rivals))
        if fit is None:
            return Measurement(missing={f"{NAME}/score": choose.not_here("clip")})
        drawn, base = _recombined(context)
        return self._control(
            fitting(context, fit, prompts, drawn, keep=False), fitting(context, fit, prompts, base, keep=True)
        )


def build(
    *, min_base_accuracy: Annotated[float, Field(gt=0, le=1)], encoder: Encoder, also: tuple[Encoder, ...]
) -> PromptControl:
    """Build the metric.

    Args:
        min_base_accuracy: share of asked attributes that the base must show for the ratio to mean anything,
            (0, 1].
        encoder: `auto` takes the dollhouse's reader there, elsewhere CLIP when a copy is configured, else the
            base as a classifier.
        also: encoders that are asked as well, under `prompt_control/score_<encoder>`.
    """
    return PromptControl(min_base_accuracy=min_base_accuracy, encoder=encoder, also=tuple(also))


def names(recipe: Recipe, plan: Plan) -> dict[str, str]:
    """The numbers that `measure` gives for a recipe, and why it cannot; empty when it can."""
    knobs = recipe.metrics[NAME]
    found: dict[str, str] = {}
    for encoder, ending in ((knobs["encoder"], ""), *((also, f"_{also}") for also in knobs["also"])):
        unreadable = dolls.UNREADABLE if encoder == "reader" and not dolls.subject_in(recipe) else ""
        no_clip = "" if encoder != "clip" or choose.is_here("clip", recipe.encoders) else choose.not_here("clip")
        none = "" if plan.prompts.get("recombined") else "no pictures of recombined prompts"
        why = dict.fromkeys(("score", "accuracy", "base_accuracy"), unreadable or no_clip or none)
        for name, tier in uncalled(recipe, plan).items():
            why[name] = unreadable or ("" if plan.prompts.get(tier) else f"no pictures of {tier} prompts")
        why.setdefault("bleed_class", WHY_NO_STRANGERS)
        why.setdefault("bleed_plain", "the class prompts name others: bleed_class says how they are")
        found |= {f"{NAME}/{name}{ending}": reason for name, reason in why.items()}
    return found


# -------------------------------------------------------------------------------------------- control


def accuracy(context: JudgeContext, pictures: Pictures) -> float | None:
    """Share of asked attributes that the reader sees, the subject's own traits left out; None without any."""
    if not pictures:
        return None
    reading = dolls.read(context.reader, _images(pictures))
    hits = []
    for place, (sample, _) in enumerate(pictures):
        asked = dolls.asked_for(sample.request.prompt, context.recipe.captions)
        hits += [
            reading.values(attribute)[place] == value
            for attribute, value in asked.items()
            if attribute not in INTRINSIC
        ]
    return sum(hits) / len(hits) if hits else None


def fitting(
    context: JudgeContext, fit: PictureEncoder, prompts: Sequence[str], pictures: Pictures, *, keep: bool
) -> float | None:
    """Share of pictures that fit their own prompt best; None without pictures.

    Args:
        context: gives the pictures' features.
        fit: one number per picture and candidate; the first candidates are `prompts`.
        prompts: recombined prompts without the trigger.
        pictures: drawn for them, with the trigger.
        keep: whether other trials will ask for the same pictures.
    """
    if not pictures:
        return None
    best = context.features(_images(pictures), encoder=fit, keep=keep)["fit"].argmax(1).tolist()
    asked = [prompts.index(_plain(context, sample.request.prompt)) for sample, _ in pictures]
    return sum(a == b for a, b in zip(asked, best, strict=True)) / len(asked)


def _candidates(context: JudgeContext) -> tuple[list[str], list[str]]:
    """Recombined prompts, and training captions that are none of them; all without the trigger."""
    prompts = [_plain(context, prompt) for prompt in context.plan.prompts.get("recombined", ())]
    prompts = list(dict.fromkeys(prompts))
    seen = context.gallery.train_captions if context.gallery is not None else ()
    plain = dict.fromkeys(_plain(context, caption) for caption in seen)
    return prompts, [text for text in plain if text and text not in prompts][:CAPTIONS]


def _fit(context: JudgeContext, encoder: Encoder, candidates: tuple[str, ...]) -> PictureEncoder | None:
    from lorasweep.trial.judge.encoders.prompt_fit import FitByBase, FitByClip

    clip = choose.load_clip(context.base, context.recipe.encoders)
    if encoder == "base" or (encoder == "auto" and clip is None):
        return FitByBase(context.base, candidates)
    return None if clip is None else FitByClip(clip, candidates)


def _plain(context: JudgeContext, prompt: str) -> str:
    return without_trigger(prompt, context.plan.trigger, context.recipe.captions)


def _recombined(context: JudgeContext) -> tuple[Pictures, Pictures]:
    return context.pictures("recombined"), context.base_pictures("recombined")


# ---------------------------------------------------------------------------------------------- bleed


def uncalled(recipe: Recipe, plan: Plan) -> dict[str, PromptTier]:
    """Name of each bleeding, and the tier that it is read on."""
    texts = [image.caption for image in plan.train_images()]
    is_plain = are_plain(plan.prompts.get("class", ()), texts, plan.trigger, recipe.captions)
    return {"bleed_plain" if is_plain else "bleed_class": "class", "bleed_unrelated": "unrelated"}


def _uncalled(context: JudgeContext) -> dict[str, PromptTier]:
    found: dict[str, PromptTier] = context.remembered("uncalled", lambda: uncalled(context.recipe, context.plan))
    return {f"{NAME}/{name}": tier for name, tier in found.items()}


def _bleed(context: JudgeContext, gained: Callable[[Pictures, Pictures], float]) -> Measurement:
    """Ask, tier by tier, how much of the subject pictures gained over the base's for the same prompts."""
    found = Measurement()
    for name, tier in _uncalled(context).items():
        pictures, base = context.pictures(tier), context.base_pictures(tier)
        if pictures and base:
            found.values[name] = gained(pictures, base)
        else:
            found.missing[name] = f"no pictures of {tier} prompts, or none by the base"
    if f"{NAME}/bleed_class" not in found.values | found.missing:
        found.missing[f"{NAME}/bleed_class"] = WHY_NO_STRANGERS
    return found


def _bleed_by_reader(context: JudgeContext, subject: Subject) -> Measurement:
    def shown(pictures: Pictures) -> float:
        return dolls.likeness(dolls.read(context.reader, _images(pictures)), subject)

    return _bleed(context, lambda pictures, base: shown(pictures) - shown(base))


def _bleed_by_resemblance(context: JudgeContext) -> Measurement:
    """On the scale of F: 0 as the base draws them, 1 as pictures of the subject."""
    name = choose.first_configured(("dino", "clip"), context.recipe.encoders)
    everything = _images([pair for tier in PROMPT_TIERS for pair in context.base_pictures(tier)])
    try:
        view = resemblance.look(context, name, everything)
    except resemblance.CannotTell as reason:
        return Measurement(missing=dict.fromkeys(_uncalled(context), str(reason)))
    return _bleed(context, lambda pictures, base: view.gained(_images(pictures), _images(base)))


def _images(pictures: Pictures) -> list[Image.Image]:
    return [image for _, image in pictures]


def _suffixed(found: dict[str, Any], encoder: str) -> dict[str, Any]:
    return {f"{name}_{encoder}": value for name, value in found.items()}
