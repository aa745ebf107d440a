"""The records that travel along the arrows: recipe -> plan -> outcome, frozen, and JSON at both ends.

    Recipe    what to cook: every choice of the config groups, fully resolved
    Plan      what cooking it means: images in buckets, steps, exposures, rungs, prompts
    Outcome   how it ended

Knows nothing about torch, Hydra, Optuna or MLflow.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from lorasweep.core import paths
from lorasweep.core.ranges import Count, LoraWeight, NotNegative, Positive, Share, Text, apart

T = TypeVar("T")

PredictionType = Literal["epsilon", "v_prediction"]
PromptTier = Literal["in_distribution", "recombined", "class", "unrelated"]
PROMPT_TIERS: tuple[PromptTier, ...] = ("in_distribution", "recombined", "class", "unrelated")
ANY_TIER = "any"  # of `dataset.prompts`: prompts whose tier the plan tells, by the trigger
NOT_THE_RECIPE = ("tracking", "launcher")  # groups that say where a recipe is cooked and shown, and decide no result
# Keys of files and folders: what a run is made from, all known by its content (`Plan.material`), and is judged by.
MATERIAL = (
    *("dataset.path", "dataset.holdout_path", "dataset.masks", "regularization.reg_images.path", "adapter.init"),
    *("base.path", "base.weights", "base.adapter", "sample.base"),
)
JUDGED_BY = ("calibration", "encoders.clip", "encoders.dino", "encoders.sscd")


class Status(enum.StrEnum):
    """Where a trial stands; what each means to Optuna and MLflow is decided in `sweep/` and `tracking/`."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    PRUNED = "PRUNED"
    DIVERGED = "DIVERGED"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    CRASHED = "CRASHED"
    INVALID = "INVALID"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        """Whether the trial will not be touched again when the sweep continues."""
        return self not in (Status.WAITING, Status.RUNNING, Status.CANCELLED)

    @property
    def spoken(self) -> str:
        """The same in a person's words: `out of memory`."""
        return self.value.lower().replace("_", " ")


Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1, title="have at least one seed"), apart("seed")]
Ladder = Annotated[tuple[Annotated[float, Field(ge=0, le=2)], ...], apart("weight")]  # LoRA weights
Experiment = Annotated[
    str, Field(pattern=r"^([^:]|:+[^:/])+$", title="be a name: an address goes into MLFLOW_TRACKING_URI")
]
Shift = Annotated[float, Field(gt=0, le=1000)]  # of noise levels
Side = Annotated[int, Field(ge=8, le=4096, examples=[512])]  # px
_DEVICES = "be auto, cpu, cuda or cuda:N"


@dataclass(frozen=True, kw_only=True)
class Component:
    """A choice that is a name plus knobs: `name` is a module, `options` its builder's keyword arguments."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class BaseOptions:
    """The base model (`conf/base/`)."""

    name: str  # module in lorasweep/components/bases/
    path: Text | None  # diffusers folder; None for the embedded dollhouse
    weights: Text | None = None  # a .safetensors of the denoiser, in place of that of the folder
    adapter: Text | None = None  # a LoRA of the denoiser that is merged while training, and out of it while drawing
    resolution: Annotated[int, Field(ge=8, le=4096, examples=[512])]  # px, trained at; bucket areas refer to it
    bucket_step: Annotated[int, Field(ge=1, le=512, examples=[64])]  # px, bucket sides are its multiples
    clip_skip: Annotated[int, Field(ge=1, le=12)] = 1  # 1 = last hidden state, kohya's counting
    prediction_type: PredictionType | None = None  # None: as the base's files say, as below
    zero_terminal_snr: bool | None = None  # whether the noise schedule ends in nothing but noise
    negative_prompt: str = ""
    neighbour_prompts: tuple[str, ...] = ()  # other subjects of its kinds, for drift near a LoRA's subject
    unrelated_prompts: tuple[str, ...] = ()  # prompts this base draws well and no LoRA should disturb


@dataclass(frozen=True, kw_only=True)
class DollhouseOptions:
    """The procedural dataset that is drawn when `dataset.path` is null."""

    subject: str = "zkw"
    images: Annotated[int, Field(ge=0, le=10_000)] = 20  # 0: none, for files that are judged by prompts alone
    outfits: Annotated[int, Field(ge=1, le=4)] = 1
    confound: Share = 0.5  # share of images that keep the subject's usual background and outfit
    captions: Literal["absorbed", "full"] = "absorbed"  # without, or with, the tags of the subject's own traits
    seed: Seed = 2
    shapes: Literal["five", "photos"] = "five"  # sizes that are buckets, or those of a folder of photos


@dataclass(frozen=True, kw_only=True)
class DatasetOptions:
    """The images (`conf/dataset/`)."""

    path: Text | None = None  # kohya folder (`10_zkw/…`) or plain images; None draws the dollhouse's
    repeats: Annotated[int, Field(ge=1, examples=[10])] | None = None  # None: the number in the folder's name, else 1
    holdout: Annotated[float, Field(ge=0, le=0.5)] = 0.2  # share of images kept for judging, duplicates together
    holdout_seed: Seed = 0
    holdout_path: Text | None = None  # a folder of images kept for judging; then none of the dataset's is
    holdout_files: tuple[Text, ...] = ()  # images of the dataset kept for judging, in place of the share
    masks: Text | None = None  # `alpha`, `beside` (NAME-masklabel.png) or a folder; None: the whole picture is trained
    unmasked_weight: Share = 0.0  # of the loss where a mask is black; 1 where it is white
    prompts: dict[str, tuple[str, ...]] | None = None  # by tier or `ANY_TIER`; None: derived from the captions
    dollhouse: DollhouseOptions = field(default_factory=DollhouseOptions)

    @property
    def is_empty(self) -> bool:
        """Whether there are no images at all, so that files are judged by prompts alone."""
        return self.path is None and self.dollhouse.images == 0

    @property
    def drawn(self) -> DollhouseOptions | None:
        """What the dollhouse's world draws; None where the images are a person's own."""
        return self.dollhouse if self.path is None and not self.is_empty else None


@dataclass(frozen=True, kw_only=True)
class CleanOptions:
    """How tags are tidied up before anything else; the trigger's own tag is never touched."""

    lowercase: bool = False
    underscores: bool = False  # true: spaces instead, but not in faces like ^_^
    duplicates: bool = False  # true: only the first of equal tags stays
    implied: bool = False  # true: `hat` goes where `red hat` is
    unwanted: tuple[str, ...] = ()  # tags or patterns that go: `watermark`, `* background`
    replacements: dict[str, str] = field(default_factory=dict)  # tag -> what stands there instead


@dataclass(frozen=True, kw_only=True)
class CaptionOptions:
    """How captions are read and varied (`conf/captions/`)."""

    extension: Annotated[str, Field(pattern=r"^\.[\w.-]+$", title="be a suffix")] = ".txt"
    trigger: str | None = None  # None: what the captions, and the folder's name with them, call the subject
    add_trigger: bool | None = None  # put it in front where it is missing; None: when `trigger` is given
    separator: Text = ", "
    prune: tuple[str, ...] = ()  # tags or patterns (`* hair`) left out, for the trigger to absorb
    decouple: Share = 0.0  # share of each concept's images that keep those tags and lose the trigger
    clean: CleanOptions = field(default_factory=CleanOptions)
    shuffle: bool = False
    keep_tokens: Annotated[int, Field(ge=0)] = 1  # leading tags that stay in place, and are never dropped alone
    dropout: Share = 0.0  # share of steps that see an empty caption
    tag_dropout: Share = 0.0  # share of the other tags that a step does not see


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """The budget and the numerics (`conf/train/`)."""

    max_steps: Annotated[int, Field(ge=1, examples=[300])] | None = None  # optimizer steps; wins over epochs
    epochs: Count | None = 8
    steps_per_epoch: Annotated[int, Field(ge=1, examples=[50])] | None = None  # None: from images x repeats / batch
    batch_size: Count = 4
    gradient_accumulation: Count = 1
    max_grad_norm: NotNegative = 1.0  # 0 = no clipping
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    rungs: Count = 4  # checkpoints at which a trial is judged, evenly spaced, the last step included
    keep: Literal["done", "last"] = (
        "done"  # the adapter that stays: of the rung judged done or nearest to it, or the last
    )
    log_every: Count = 10  # steps
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", title=_DEVICES)] = "auto"


@dataclass(frozen=True, kw_only=True)
class NoiseOptions:
    """Which levels of noise are trained, and how much each counts (`conf/noise/`).

    A level is a share of the base's noise path: 0 is clean, 1 nothing but noise.
    """

    levels: Literal["uniform", "logit_normal"] = "uniform"
    low: Annotated[float, Field(ge=0, lt=1)] = 0.0
    high: Annotated[float, Field(gt=0, le=1)] = 1.0
    mean: Annotated[float, Field(ge=-10, le=10)] = 0.0  # of a level's logit; as std, for logit_normal only
    std: Annotated[float, Field(gt=0, le=10)] = 1.0
    shift: Shift | Literal["dynamic"] = 1.0  # level u -> shift u / (1 + (shift - 1) u); dynamic: as drawing has it
    min_snr_gamma: Annotated[float, Field(gt=0, le=1000, examples=[5])] | None = None  # at most one of these three
    debiased: bool = False
    p2_gamma: Annotated[float, Field(gt=0, le=10, examples=[1])] | None = None
    offset: Share = 0.0
    adaptive_noise_scale: Annotated[float, Field(ge=-10, le=10)] = 0.0  # times a channel's |mean|, added to the offset
    multires_iterations: Annotated[int, Field(ge=0, le=20)] = 0  # coarser noises added to the noise; 0: none
    multires_discount: Share = 0.3  # what each counts of the one before it
    input_perturbation: Share = 0.0  # noise more in what the base is shown, and not in the right answer
    loss_type: Literal["l2", "l1", "huber", "smooth_l1"] = "l2"
    huber_c: Annotated[float, Field(gt=0, le=10, examples=[0.1])] = 0.1  # errors above it count by their size alone
    huber_schedule: Literal["constant", "exponential", "snr"] = "snr"  # how huber_c falls, or not, as noise rises


@dataclass(frozen=True, kw_only=True)
class MemoryOptions:
    """What is traded for room on the device (`conf/memory/`); of these, `storage` alone changes results."""

    gradient_checkpointing: bool | None = False  # None: where the device is too small without, as the next three
    offload_text_encoders: bool | None = False
    tile_vae: bool | None = False
    offload_denoiser: bool | None = False
    storage: Literal["plain", "fp8", "int8", "nf4"] = "plain"  # of the denoiser's frozen weights


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What a base takes of a device's memory."""

    denoiser: int  # numbers that it has
    texts: tuple[int, ...]  # those of each text encoder
    vae: int
    kept: float  # bytes per pixel that a training step holds at once, in bf16, with a LoRA on `attn-mlp`
    recomputed: float  # the same with gradient checkpointing
    asked: float  # of a pass without gradients
    widest: int  # channels of the VAE where it has most
    beside: int = 0  # numbers of a second denoiser, which visits while pictures are drawn


@dataclass(frozen=True, kw_only=True)
class ComputeOptions:
    """How the device computes (`conf/compute/`): faster, and other results by rounding."""

    allow_tf32: bool = False  # fp32 matrix products of NVIDIA's cards in TF32
    attention_backend: Literal["auto", "flash", "efficient", "cudnn", "math"] = "auto"  # of torch's kernels
    channels_last: bool = False  # memory layout of a UNet
    dynamo_backend: Literal["none", "inductor", "aot_eager", "eager"] = "none"  # compiles the blocks that repeat

    def mark(self, fingerprint: str) -> str:
        """Return a base's fingerprint when it computes so; the very same for the defaults."""
        return fingerprint if self == ComputeOptions() else digest([fingerprint, self])


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """How samples are drawn (`conf/sample/`)."""

    base: Text | None = None  # a sibling of the base whose denoiser draws in its place; folder or .safetensors
    weight: LoraWeight = 0.7  # the judged LoRA weight
    weights: Ladder = (0.4, 0.7, 1.0)  # the ladder, drawn at the end
    seeds: Seeds = (0, 1)  # at the end, at `weight`
    rung_seeds: Seeds = (0,)  # at rungs, and at the ladder's other weights
    class_seeds: Count = 1  # class prompts are drawn from so many of either: people differ more than noises
    sampler: Literal["ddim", "euler", "dpmpp_2m"] = "ddim"
    steps: Annotated[int, Field(ge=1, le=998)] = 20  # DPM-Solver++ takes one timestep of 1000 more, which must differ
    guidance: Annotated[float, Field(ge=0, le=100)] = 4.0
    guidance_rescale: Share | None = None  # None: 0.7 on zero terminal SNR with v, else 0
    width: Side | None = None  # px; None: the base's resolution
    height: Side | None = None
    batch_size: Count = 16

    def seeds_of(self, tier: PromptTier, seeds: tuple[int, ...]) -> tuple[int, ...]:
        """Return those of some seeds that the prompts of a tier are drawn from."""
        return seeds[: self.class_seeds] if tier == "class" else seeds


@dataclass(frozen=True, kw_only=True)
class EncoderOptions:
    """Local copies of models that look at pictures (`conf/encoders/`); None: not here, never downloaded."""

    clip: Text | None = None  # folder in transformers' format, tokenizer included
    dino: Text | None = None  # folder in transformers' format: DINO or DINOv2
    sscd: Text | None = None  # TorchScript file of SSCD


@dataclass(frozen=True, kw_only=True)
class TrackingOptions:
    """Where results are mirrored (`conf/tracking/`); never part of a recipe's fingerprint."""

    name: Literal["mlflow", "none"] = "mlflow"
    experiment: Experiment = "lorasweep"
    timeout_s: NotNegative = 20.0  # how long the end of a sweep waits for a slow server


@dataclass(frozen=True, kw_only=True)
class LauncherOptions:
    """Who cooks (`conf/launcher/`); never part of a recipe's fingerprint."""

    name: str = "local"  # module in lorasweep/sweep/launchers/
    workers: Annotated[int, Field(ge=1, le=10_000, examples=[4])] | None = None  # None: one per GPU, else per CPU core
    threads: Annotated[int, Field(ge=1, le=1024)] | None = 1  # torch's, per worker; None: the cores, shared out
    recycle_after: Annotated[int, Field(ge=1, examples=[50])] | None = None  # trials until a worker is replaced
    memory_growth_mb: Positive | None = 2000.0  # a worker that grew by more since its first trial does so too
    hang_s: Annotated[float, Field(ge=1)] | None = 600.0  # a busy worker without a sign of life for so long is killed
    options: dict[str, Any] = field(default_factory=dict)  # the module's own knobs


# Knobs that recipes did not always have, with the values at which a recipe is what it was without them.
_LATER: dict[str, dict[str, Any]] = {
    "adapter": {"init": None, "rank_dropout": 0, "module_dropout": 0},
    "optimizer": {"loraplus_lr_ratio": None},
    "base": {"adapter": None},
    "dataset": {"masks": None, "unmasked_weight": 0},
    "noise": {
        **{"adaptive_noise_scale": 0, "multires_iterations": 0, "multires_discount": 0.3, "input_perturbation": 0},
        **{"loss_type": "l2", "huber_c": 0.1, "huber_schedule": "snr"},
    },
    "sample": {"base": None},
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One fully resolved configuration, cooked with one seed."""

    seed: Seed
    base: BaseOptions
    dataset: DatasetOptions
    captions: CaptionOptions
    buckets: Component
    adapter: Component
    optimizer: Component
    scheduler: Component
    regularization: dict[str, dict[str, Any]]  # regularizer's name -> knobs; {} for none
    train: TrainOptions
    sample: SampleOptions
    metrics: dict[str, dict[str, Any]]  # metric name -> knobs, in the order of the config
    noise: NoiseOptions = field(default_factory=NoiseOptions)
    memory: MemoryOptions = field(default_factory=MemoryOptions)
    compute: ComputeOptions = field(default_factory=ComputeOptions)
    encoders: EncoderOptions = field(default_factory=EncoderOptions)
    calibration: Text | None = None  # file of limits to judge by; None: what fits the base
    tracking: TrackingOptions = field(default_factory=TrackingOptions)
    launcher: LauncherOptions = field(default_factory=LauncherOptions)

    @property
    def picture_px(self) -> tuple[int, int]:
        """Width, height of what is drawn: the base's resolution unless `sample` says otherwise."""
        return self.sample.width or self.base.resolution, self.sample.height or self.base.resolution

    def fingerprint(self) -> str:
        """Digest everything that decides the result: not where it runs, nor what is traded for room there."""
        data = {key: value for key, value in to_dict(self).items() if key not in NOT_THE_RECIPE}
        data["memory"] = self.memory.storage
        if self.compute == ComputeOptions():
            del data["compute"]  # as when there was no such group
        for group, knobs in _LATER.items():
            part = data[group].get("options", data[group])
            for key, value in knobs.items():
                if part.get(key, ...) == value:
                    del part[key]
        return digest(data)


@dataclass(frozen=True, kw_only=True)
class Advice:
    """A range that experience gives a key when a module is chosen; leaving it is allowed, and warned about.

    An adapter's or an optimizer's module lists its own as `ADVICE`.
    """

    key: str  # `optimizer.lr`
    reason: str
    low: float | None = None  # inclusive, as high; None: no bound on this side
    high: float | None = None
    optimizers: tuple[str, ...] | None = None  # holds with these only; None: with all


@dataclass(frozen=True, kw_only=True)
class NoiseSchedule:
    """How a base is noised and what it predicts, as far as its files say; what `protocols.NoisePath` is made of."""

    config: dict[str, Any]  # for diffusers' schedulers
    said: str | None  # prediction type that the base's own files state; None where they state none
    marked: bool  # whether a checkpoint states it by a mark
    as_written: bool  # whether `config` is the scheduler config's own, drawn with in the usual way

    @property
    def prediction_type(self) -> str:
        """`epsilon`, `v_prediction` or `flow`."""
        return str(self.config["prediction_type"])

    @property
    def zero_terminal_snr(self) -> bool:
        """Whether the last timestep is nothing but noise, so that its signal-to-noise ratio is 0."""
        return bool(self.config.get("rescale_betas_zero_snr"))


@dataclass(frozen=True, kw_only=True, order=True)
class Bucket:
    """A training size; both sides multiples of the base's bucket step."""

    width_px: int
    height_px: int


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Where a picture comes from, as some bases want to be told; (width, height) and (left, top)."""

    original_px: tuple[int, int]  # of the file, before resizing
    crop_px: tuple[int, int]
    size_px: tuple[int, int]

    @classmethod
    def whole(cls, width_px: int, height_px: int) -> Frame:
        """Return a picture that was neither resized nor cropped: what is asked for when drawing."""
        return cls(original_px=(width_px, height_px), crop_px=(0, 0), size_px=(width_px, height_px))


@dataclass(frozen=True, kw_only=True)
class LatentShape:
    """How pictures and latents of a base go together."""

    channels: int
    px: int  # pixels per latent, along a side

    def of(self, width_px: int, height_px: int) -> tuple[int, int, int]:
        """Return the (C, H, W) of a picture's latent."""
        return self.channels, height_px // self.px, width_px // self.px


@dataclass(frozen=True, kw_only=True)
class GeneratedImage:
    """A picture that the base itself draws, in its bucket's size, the way samples are drawn."""

    prompt: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class Mask:
    """Where an image counts: fully where its mask is white or opaque."""

    file: str  # absolute path; the image's own for its alpha channel
    sha256: str  # of the file's bytes
    channel: Literal["alpha", "gray"]
    share: float  # mean of the mask in the crop that is trained on; 1 is all white


@dataclass(frozen=True, kw_only=True)
class PlannedImage:
    """One image on its way into training or judging. Sizes are after EXIF rotation."""

    file: str  # absolute path
    sha256: str  # of the file's bytes; "" while the base has not drawn it
    concept: str  # folder name, e.g. `10_zkw outfit1`; "" for a plain folder; a regularizer's name
    caption: str  # after the caption policy, before shuffle and dropout
    split: Literal["train", "held_out", "regularization"]
    repeats: int
    width_px: int
    height_px: int
    bucket: Bucket
    resize_px: tuple[int, int]  # width, height before cropping
    crop_px: tuple[int, int]  # left, top of the centre crop of the bucket's size
    loss_weight: float = 1.0  # its loss times this; kohya's prior_loss_weight on regularization images
    target: Literal["noise", "base"] = "noise"  # the right answer: the noise (or v), or the base's own answer
    drawing: GeneratedImage | None = None  # None: a file that is there
    profile: str = ""  # digest of the colour profile that it is converted from; "": it is in sRGB
    mask: Mask | None = None  # None: all of it counts

    @property
    def path(self) -> Path:
        """Where its file is."""
        return Path(self.file)

    @property
    def short(self) -> str:
        """Its name as a person would look it up."""
        return paths.short(self.path)

    @property
    def source(self) -> str:
        """What its pixels come from: the file, and the profile that they are converted from if any."""
        return f"{self.sha256}+{self.profile}" if self.profile else self.sha256

    @property
    def aspect_error(self) -> float:
        """|width / height of the bucket - width / height of the image|, as kohya's `mean_img_ar_error` has it."""
        return abs(self.bucket.width_px / self.bucket.height_px - self.width_px / self.height_px)

    @property
    def cropped_share(self) -> float:
        """Share of the resized image's area that the crop leaves out."""
        return 1 - self.bucket.width_px * self.bucket.height_px / (self.resize_px[0] * self.resize_px[1])

    @property
    def enlargement(self) -> float:
        """Pixels per pixel of the file, along a side."""
        return self.resize_px[0] / self.width_px

    @property
    def frame(self) -> Frame:
        """Its true original size and crop."""
        bucket = (self.bucket.width_px, self.bucket.height_px)
        return Frame(original_px=(self.width_px, self.height_px), crop_px=self.crop_px, size_px=bucket)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What cooking a recipe means, worked out before any torch is imported."""

    fingerprint: str  # of the recipe, its seed, `material` and the plugins it uses: equal means equal results
    images: tuple[PlannedImage, ...]
    trigger: str | None
    batches_per_epoch: int  # micro-batches: sum over buckets of ceil(images x repeats / batch size)
    steps_per_epoch: int  # optimizer steps
    steps: int  # optimizer steps in all
    exposures: dict[str, int]  # per concept, exact
    tag_exposures: dict[str, int]  # per caption tag; what never reaches the text encoder does not count
    exposures_per_image: float  # mean over training images
    rungs: tuple[int, ...]  # ascending steps, the last is `steps`
    prompts: dict[str, tuple[str, ...]]  # by tier
    warnings: tuple[str, ...] = ()
    reg_images: tuple[PlannedImage, ...] = ()  # trained on beside `images`, never judged by
    reg_exposures: dict[str, int] = field(default_factory=dict)  # per regularizer, exact; not in `exposures`
    material: str = ""  # digest of images, captions and base alone: what recipe and seed are applied to

    def train_images(self) -> tuple[PlannedImage, ...]:
        """Return images that are trained on."""
        return tuple(image for image in self.images if image.split == "train")

    def trained_on(self) -> tuple[PlannedImage, ...]:
        """Tell what an epoch goes through: training images, then regularization images."""
        return (*self.train_images(), *self.reg_images)

    def held_out_images(self) -> tuple[PlannedImage, ...]:
        """Return images that only judge."""
        return tuple(image for image in self.images if image.split == "held_out")


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What one metric found: numbers, and for each number it could not find, why."""

    values: dict[str, float] = field(default_factory=dict)  # `prior_drift/class` -> 0.03; always finite
    missing: dict[str, str] = field(default_factory=dict)  # name -> reason


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a trial ended."""

    status: Status
    step: int  # last finished optimizer step
    value: float | None = None  # the sweep's metric, when it could be measured
    metrics: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    reason: str = ""  # for people, when status is not COMPLETED


_PLAIN = frozenset({str, int, float, bool, type(None)})


def to_dict(record: Any) -> Any:
    """Turn a record into plain dicts, lists and scalars that JSON can hold."""
    if type(record) in _PLAIN:  # most of what there is
        return record
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        return {f.name: to_dict(getattr(record, f.name)) for f in dataclasses.fields(record)}
    if isinstance(record, dict):
        return {str(key): to_dict(value) for key, value in record.items()}
    if isinstance(record, list | tuple):
        return [to_dict(item) for item in record]
    if isinstance(record, enum.Enum):
        return record.value
    return str(record) if isinstance(record, str) else record  # a finding is its sentence


def flatten(data: Any, prefix: str = "") -> dict[str, Any]:
    """Name the leaves of nested dicts by dotted keys; lists are leaves, and an empty dict has none."""
    if not isinstance(data, Mapping):
        return {prefix: data}
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def from_dict(cls: type[T], data: Any) -> T:
    """Rebuild a record from `to_dict`'s output; what words and numbers mean is not checked, as it is in `config/`.

    Raises:
        ValueError: it is no such output: of another version, or changed by hand.
    """
    try:
        return typing.cast(T, _rebuild(cls, data))
    except (TypeError, AttributeError, KeyError, OverflowError) as error:
        told = f"unknown key {error}" if isinstance(error, KeyError) else "cut or changed by hand"
        raise ValueError(f"not a {cls.__name__} of this version: {told}") from error


def digest(data: Any) -> str:
    """Return the hex SHA-256 of canonical JSON."""
    text = json.dumps(to_dict(data), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


_hints = functools.cache(typing.get_type_hints)


def _rebuild(hint: Any, data: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if data is None or any(data in typing.get_args(a) for a in arguments if typing.get_origin(a) is Literal):
            return data
        return _rebuild(next(a for a in arguments if a is not type(None)), data)
    if dataclasses.is_dataclass(hint):
        hints = _hints(typing.cast(Any, hint))
        return typing.cast(Any, hint)(**{key: _rebuild(hints[key], value) for key, value in data.items()})
    if origin is dict:
        return {key: _rebuild(arguments[1], value) for key, value in data.items()}
    if origin is tuple:
        inner = arguments[:1] * len(data) if len(arguments) == 2 and arguments[1] is Ellipsis else arguments
        return tuple(_rebuild(a, value) for a, value in zip(inner, data, strict=True))
    if origin is list:
        return [_rebuild(arguments[0], value) for value in data]
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint(data)
    if hint is float:
        return float(data)
    if hint in _PLAIN and type(data) is not hint:
        raise ValueError(f"not a record of this version: {data!r} is no {hint.__name__}")
    return data
