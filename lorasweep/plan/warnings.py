"""What a recipe is allowed to ask for, but a person would want to know. Sentences, not errors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from lorasweep.core import registry
from lorasweep.core.records import Advice, DollhouseOptions, Plan, Recipe, TrainOptions
from lorasweep.data import captions, order
from lorasweep.plan import budget, cost, image_findings
from lorasweep.plan.budget import Budget
from lorasweep.plan.learning_rate import finds_step_size
from lorasweep.plan.reach import shared_tags

_DOLLHOUSE_LR_STEPS = 0.6  # with AdamW, measured on the shipped base: see sweeps/README.md
_DOLLHOUSE_HIGHEST_LR = 4e-3  # with AdamW: more burns before it learns
_MOST_ALPHA = 16  # x dim
_REAL_PX = 512  # resolution from which a base is one that only a GPU trains
_MUCH_UNTRAINED = 0.1  # of an average
_MANY_EXPOSURES = 500  # per image; the common advice for characters is some 100 to 250


def find(recipe: Recipe, plan: Plan, counted: Budget) -> Iterator[str]:
    """Find what is worth a warning in a plan."""
    yield from image_findings.find_planned(recipe, plan)
    yield from _buckets(recipe, plan)
    yield from _exposures(plan, counted)
    yield from _shared_trigger(recipe, plan)
    yield from _numerics(recipe)
    yield from _optimizer(recipe, plan)
    yield from _unheeded(recipe)
    yield from _scaled(recipe)
    yield from _regularization(recipe, plan)
    yield from _averages(recipe, plan)
    yield from _idle(recipe, plan)
    yield from budget.warnings(recipe, plan.steps, rungs=len(plan.rungs), batches_per_epoch=plan.batches_per_epoch)
    for tier in ("in_distribution", "recombined", "class", "unrelated"):
        if tier not in plan.prompts and not (tier == "class" and plan.trigger is None):
            yield f"there are no prompts for tier {tier}: give dataset.prompts.{tier}"


def _buckets(recipe: Recipe, plan: Plan) -> Iterator[str]:
    if recipe.buckets.name == "chosen" and not recipe.buckets.options["upscale"]:
        yield "buckets.upscale=false makes buckets on demand, as kohya does: the list of sizes is not used"
    train = plan.trained_on()
    for bucket, members in order.buckets_of(train).items():
        shown = sum(train[index].repeats for index in members)
        if shown < recipe.train.batch_size:
            size = f"{bucket.width_px}x{bucket.height_px}"
            images = "1 image" if len(members) == 1 else f"{len(members)} images"
            yield (
                f"bucket {size} has {images}, seen {shown} times an epoch: "
                f"its batches hold {shown}, not {recipe.train.batch_size}"
            )


def _exposures(plan: Plan, counted: Budget) -> Iterator[str]:
    unseen = sum(times == 0 for times in counted.by_image)
    if unseen:
        yield f"{unseen} training images are never seen in {plan.steps} steps"
    if plan.exposures_per_image > _MANY_EXPOSURES:
        yield (
            f"every image is seen {plan.exposures_per_image:.0f} times on average: expect overcooking, "
            f"or lower train.epochs, dataset.repeats or train.max_steps"
        )


def _averages(recipe: Recipe, plan: Plan) -> Iterator[str]:
    for name, knobs in recipe.regularization.items():
        untrained = getattr(registry.load("regularization", name), "untrained", None)
        if untrained and (share := untrained(plan.steps, **knobs)) >= _MUCH_UNTRAINED:
            warmup = "" if knobs.get("warmup") else f"regularization.{name}.warmup=true, or "
            yield (
                f"after {plan.steps} steps {share:.0%} of what {name} judges and saves are the weights from before "
                f"training: {warmup}a lower regularization.{name}.decay or .every"
            )


def _shared_trigger(recipe: Recipe, plan: Plan) -> Iterator[str]:
    """Warn, with the numbers, that several outfits of one character also train the character."""
    shared = next((tag for tag in shared_tags(plan, recipe.captions) if tag.tag == plan.trigger), None)
    if shared is None:
        return
    remedies = []
    if recipe.captions.decouple == 0:
        remedies.append(f"captions.decouple=0.5 would train it about {shared.decoupled(0.5)} times")
    if "scale_norm" not in recipe.regularization:
        remedies.append("regularization=scale_norm flattens what shoots up")
    if recipe.optimizer.name != "prodigy":
        remedies.append("optimizer=prodigy is said to cook less")
    yield (
        f"{shared.concepts} concepts share the trigger {shared.tag}: it is trained {shared.times} times, "
        f"{shared.ratio:.1f} x the largest of them ({shared.largest}), so be careful not to overcook it"
        + (f" ({'; '.join(remedies)})" if remedies else "")
    )


def _numerics(recipe: Recipe) -> Iterator[str]:
    train = recipe.train
    if train.precision == "fp32" and train.device != "cpu" and recipe.base.resolution >= _REAL_PX:
        yield (
            "train.precision=fp32 takes twice a GPU's memory and leaves its half-precision units idle: "
            "train.precision=bf16 is what trainers use (docs/gpu.md)"
        )


def _optimizer(recipe: Recipe, plan: Plan) -> Iterator[str]:
    options = recipe.optimizer.options
    finds = finds_step_size(recipe.optimizer.name)
    if finds is not None and options["lr"] != 1.0:
        yield (
            f"{recipe.optimizer.name} finds its own step size: keep optimizer.lr=1 and turn {finds}, "
            f"got {options['lr']:g}"
        )
    if recipe.base.name == "dollhouse" and recipe.optimizer.name == "adamw":
        lr, enough = options["lr"], _DOLLHOUSE_LR_STEPS
        if lr * plan.steps < enough / 2:
            rate = enough / plan.steps
            in_reach = rate <= _DOLLHOUSE_HIGHEST_LR
            remedy = (
                f"optimizer.lr={rate:.0e}".replace("e-0", "e-") if in_reach else "train.max_steps=300 optimizer.lr=2e-3"
            )
            yield (
                f"the dollhouse learns a subject when lr x steps is about {enough:g}; lr {lr:g} x "
                f"{plan.steps} steps will stay undercooked: try {remedy}"
            )
    yield from getattr(registry.load("optimizer", recipe.optimizer.name), "warnings", lambda recipe: ())(recipe)


def _scaled(recipe: Recipe) -> Iterator[str]:
    """Name a regularizer that scales weights, with an optimizer that reckons with them."""
    if finds_step_size(recipe.optimizer.name) is None:
        return
    for name in recipe.regularization:
        if getattr(registry.load("regularization", name), "SCALES_WEIGHTS", False):
            yield (
                f"{name} moves the weights behind {recipe.optimizer.name}'s back, which finds its step size "
                "by how far they have come: the two are better not combined"
            )


def _unheeded(recipe: Recipe) -> Iterator[str]:
    """Find the ranges that the chosen adapter and optimizer advise, and the recipe leaves.

    Where the adapter has a range for a key, the optimizer's own, which is for any adapter, does not count.
    """
    known: set[str] = set()
    for part, name in (("adapter", recipe.adapter.name), ("optimizer", recipe.optimizer.name)):
        module = registry.load(part, name)
        meant: list[Advice] = [
            each
            for each in getattr(module, "ADVICE", ())
            if each.key not in known and (not each.optimizers or recipe.optimizer.name in each.optimizers)
        ]
        for advice in meant:
            group, knob = advice.key.split(".")
            given = getattr(recipe, group).options.get(knob)
            if advice.key == "adapter.dim" and _is_whole(recipe):
                continue
            for value in given if isinstance(given, list | tuple) else [given]:
                if value is not None and advice.low is not None and value < advice.low:
                    yield f"{advice.key}={value:g} is below {advice.low:g} with {name}: {advice.reason}"
                if value is not None and advice.high is not None and value > advice.high:
                    yield f"{advice.key}={value:g} is over {advice.high:g} with {name}: {advice.reason}"
        known |= {each.key for each in meant}


def _is_whole(recipe: Recipe) -> bool:
    """Tell whether a LoKr's matrices are whole because its rank is beyond any layer's, which costs nothing more."""
    largest = registry.load("base", recipe.base.name).largest_rank(recipe.base)
    return recipe.adapter.name == "lokr" and recipe.adapter.options["dim"] > largest


def _regularization(recipe: Recipe, plan: Plan) -> Iterator[str]:
    """Say what regularization images cost the subject, and which of them would work against it."""
    if not plan.reg_images:
        return
    alone = budget.count(plan.train_images(), recipe.train, seed=recipe.seed)
    if plan.steps != alone.steps:
        yield (
            f"regularization images make an epoch {plan.steps_per_epoch} steps instead of "
            f"{alone.steps_per_epoch}: {plan.steps} in all instead of {alone.steps}, as in kohya's trainers"
        )
    else:
        fixed = "max_steps" if recipe.train.max_steps else "steps_per_epoch"
        before = sum(alone.by_image) / len(alone.by_image)
        yield (
            f"regularization images share the {plan.steps} steps that train.{fixed} fixes: a training image "
            f"is seen {round(plan.exposures_per_image, 1):g} times instead of {round(before, 1):g}"
        )
    answered = sum(image.repeats for image in plan.reg_images if image.target == "base")
    if answered:
        share = answered / sum(image.repeats for image in plan.trained_on())
        yield (
            f"prior_prediction asks the base for {share:.0%} of the targets: one more forward pass each, "
            f"{share * cost.FORWARD_SHARE:.0%} more time to train"
        )
    called = [i for i in plan.reg_images if plan.trigger and captions.has_trigger(i.caption, plan.trigger)]
    if called:
        yield (
            f"{len(called)} regularization captions have the trigger {plan.trigger}, which they are meant to "
            f"do without, e.g. {called[0].caption!r} of {called[0].concept}"
        )


def _idle(recipe: Recipe, plan: Plan) -> Iterator[str]:
    """Find keys that do nothing, or undo the training, as they stand together."""
    train, drawn, default = recipe.train, recipe.dataset.dollhouse, DollhouseOptions()
    for knob in ("epochs", "steps_per_epoch"):
        value = getattr(train, knob)
        if train.max_steps is not None and value not in (None, getattr(TrainOptions(), knob)):
            yield (
                f"train.max_steps={train.max_steps} decides: train.{knob} is not read, got {value} "
                "(train.max_steps=null for epochs)"
            )
    changed = [
        f"dataset.dollhouse.{field.name}={getattr(drawn, field.name)}"
        for field in dataclasses.fields(drawn)
        if getattr(drawn, field.name) != getattr(default, field.name)
    ]
    if recipe.dataset.drawn is None and changed:
        are = "is" if len(changed) == 1 else "are"
        yield f"{', '.join(changed)} {are} not read: dataset.path gives the images"
    rate, trains = recipe.optimizer.options.get("text_encoder_lr"), recipe.adapter.options.get("text_encoder")
    if rate is not None and not trains:
        yield f"optimizer.text_encoder_lr={rate} is not used: adapter.text_encoder is false"
    if rate == 0 and trains:
        yield "optimizer.text_encoder_lr=0 never moves it: adapter.text_encoder=false costs less"
    yield from _captions(recipe, plan)
    base, sample = registry.load("base", recipe.base.name), recipe.sample
    if recipe.base.negative_prompt and sample.guidance <= 1:
        yield f"base.negative_prompt is not used: sample.guidance={sample.guidance:g} guides nothing"
    elif recipe.base.negative_prompt and not getattr(base, "reads_negative", lambda _: True)(recipe.base):
        yield f"base.negative_prompt is not used: base={recipe.base.name} is guided without one"
    if sample.guidance > 1 and getattr(base, "draws_in_few_steps", lambda *_: False)(recipe.base, sample.base):
        yield (
            f"sample.guidance={sample.guidance:g} on what was distilled to draw in few steps without: pictures look "
            "burned that are not (sample=distilled)"
        )
    largest = base.largest_rank(recipe.base)
    for knob in ("dim", "conv_dim"):
        rank = recipe.adapter.options.get(knob, 0)
        if rank > largest and not _is_whole(recipe):
            yield (
                f"adapter.{knob}={rank} is beyond the rank of any layer of the base, {largest} at most: what "
                "is over it only costs memory"
            )
        alpha = recipe.adapter.options.get(knob.replace("dim", "alpha"), 0)
        if rank and alpha > _MOST_ALPHA * rank:
            yield (
                f"adapter.{knob.replace('dim', 'alpha')}={alpha:g} is {alpha / rank:,.0f} x adapter.{knob}={rank}, and "
                "the adapter's change is multiplied by that: half of dim is usual"
            )
    floor, lr = recipe.scheduler.options.get("min_lr"), recipe.optimizer.options["lr"]
    if floor and floor >= lr:
        yield f"scheduler.min_lr={floor:g} is no floor under optimizer.lr={lr:g}: 0 is taken"


def _captions(recipe: Recipe, plan: Plan) -> Iterator[str]:
    options = recipe.captions
    if options.dropout == 1:
        yield "captions.dropout=1 trains on empty captions only: no word, and no trigger, is learned"
    if options.tag_dropout == 1:
        kept = "no tag is" if options.keep_tokens == 0 else f"only the first {options.keep_tokens} tags are"
        yield f"captions.tag_dropout=1: {kept} ever seen"
    if options.keep_tokens > 1 and not options.shuffle and not options.tag_dropout:
        yield (
            f"captions.keep_tokens={options.keep_tokens} does nothing without captions.shuffle or captions.tag_dropout"
        )
    if options.shuffle or options.tag_dropout > 0:
        longest = max(len(captions.tags(image.caption, options)) for image in plan.train_images())
        behind = f"behind the first {options.keep_tokens} (captions.keep_tokens), separated by {options.separator!r}"
        if options.shuffle and longest < options.keep_tokens + 2:
            yield f"captions.shuffle does nothing: no caption has two tags {behind}"
        if options.tag_dropout > 0 and longest < options.keep_tokens + 1:
            yield f"captions.tag_dropout does nothing: no caption has a tag {behind}"
    trigger = plan.trigger
    if trigger and not any(captions.has_trigger(i.caption, trigger) for i in plan.train_images()):
        yield f"no caption that is trained on has the trigger {trigger}, so it learns nothing"
