"""The contracts between stages, smallest that compose. Read this first; nothing inherits from it.

Letters: B batch, C latent channels, H W latent height and width, L tokens, D text width, G timestep buckets.
torch appears in annotations only, so importing this module costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from lorasweep.core.errors import InputError
    from lorasweep.core.judging import EncoderName, Gallery, Magnitudes, NoiseName, Part, Picture, Rows, SetName
    from lorasweep.core.records import (
        Frame,
        LatentShape,
        Measurement,
        MemoryOptions,
        Plan,
        PlannedImage,
        PromptTier,
        Recipe,
    )

T = TypeVar("T")
ImageList = Sequence["Image.Image"]
# lr of a param group at an optimizer step: (step, that group's peak lr) -> lr. Step 0 is the first update.
Schedule = Callable[[int, float], float]


@dataclass(frozen=True)
class Sampling:
    """The way from noise to an image: the model is asked at `t`, then noise goes from one level to the next."""

    start: float  # what standard normal noise is multiplied by at first
    # t, (alpha, sigma) there, (alpha, sigma) afterwards
    steps: Sequence[tuple[torch.Tensor, tuple[float, float], tuple[float, float]]]


# What a base was told in words: tensors by name, one row a caption, e.g. "embeds" (B, L, D), "pooled" (B, P). Where
# there is a "mask" (B, L), all are (B, L, ...) and count only where it is True.
Text = dict[str, "torch.Tensor"]


class NoisePath(Protocol):
    """How an image x and noise n are mixed, x_t = alpha x + sigma n, and what a model answers about it.

    t is the path's own coordinate of noise, (B,), larger for more of it; only a path and `Base.predict` know its unit.
    """

    @property
    def prediction(self) -> str:
        """What is predicted: epsilon, v_prediction or flow."""

    @property
    def rescale(self) -> float:
        """Of guided answers (`trial.denoise.guided`), unless a recipe says otherwise."""

    def scales(self, t_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return alpha and sigma, (B,)."""

    def add(self, clean_BCHW: torch.Tensor, noise_BCHW: torch.Tensor, t_B: torch.Tensor) -> torch.Tensor:
        """Mix images with noise."""

    def target(self, clean_BCHW: torch.Tensor, noise_BCHW: torch.Tensor, t_B: torch.Tensor) -> torch.Tensor:
        """Return the right answer."""

    def split(
        self, noisy_BCHW: torch.Tensor, answer_BCHW: torch.Tensor, alpha: float, sigma: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the image and the noise that an answer implies."""

    def snr(self, t_B: torch.Tensor) -> torch.Tensor:
        """Return alpha^2 / sigma^2, (B,); 0 where nothing but noise is left."""

    def t_of(self, u_B: torch.Tensor) -> torch.Tensor:
        """Return t at shares u in [0, 1) of the whole path, clean to noise."""

    def share(self, t_B: torch.Tensor) -> torch.Tensor:
        """Return how far along the path t are, in [0, 1], clean to noise, (B,)."""

    def as_noisy_as(self, timestep: int) -> torch.Tensor:
        """Return the t, 0-dimensional, with the SNR of Stable Diffusion's `timestep` in [0, 1000)."""

    def uniform(self, count: int, generator: torch.Generator, *, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        """Draw `count` t evenly between two shares of the path, on the CPU."""

    def error_scale(self, t_B: torch.Tensor) -> torch.Tensor:
        """Return squared error of an answer per squared error of the image that it implies, (B,)."""

    def shift(self, size: tuple[int, int]) -> float:
        """Return by how much levels u go to u shift / (1 + (shift - 1) u) in drawing latents of (height, width)."""

    def sampling(self, sampler: str, steps: int, size: tuple[int, int]) -> Sampling:
        """Return the steps from noise to an image with latents of (height, width).

        Raises:
            ValueError: the path has no such sampler.
        """


def is_text_encoder(part: str) -> bool:
    """Tell whether a part of `Base.parts` reads captions; the other one denoises."""
    return part.startswith("text_encoder")


def frozen_weight(layer: Any) -> torch.Tensor:
    """Return a layer's own weight as it is computed with, in however many bits and wherever it is stored."""
    found: torch.Tensor = layer.read_weight() if hasattr(layer, "read_weight") else layer.weight
    return found


# Pixels that a base is asked about at a time where no gradient is wanted: two pictures of 1024 px, eight of 512.
ASKED_PX = 2 * 1024**2


class Base(Protocol):
    """A loaded base model, frozen. One per process, shared by every slot.

    `lorasweep/components/bases/<name>.py` has `load(options: BaseOptions, *, device: str, precision: str, memory:
    MemoryOptions) -> Base`, and torch-free `PARTS`, `SCOPES`, `problems`, `fingerprint`, `noise`, `weight_shapes`,
    `VERSIONS`, `footprint`, `largest_rank` and `text_window`; with `sibling_problems`, its `load` and `fingerprint`
    take a `sibling: str` too.
    """

    parts: Mapping[str, torch.nn.Module]  # what adapters sit on, by diffusers' prefixes: the denoiser, text encoders
    scopes: Mapping[str, str]  # `adapter.targets` -> pattern of the names of modules, with a dot in front
    latent: LatentShape
    path: NoisePath
    clip_skip: int  # 1 = last hidden state
    embeds_guidance: bool  # whether it is told how far to be guided, as "guidance" (B,) in its text, 1 if it is not
    fingerprint: str
    vae_fingerprint: str  # what cached latents depend on
    text_fingerprint: str  # what cached captions depend on, clip_skip included
    device: torch.device
    dtype: torch.dtype  # of the frozen denoiser and text encoders; adapters train in fp32
    memory: MemoryOptions

    def with_clip_skip(self, clip_skip: int) -> Base:
        """Return the same modules in the same memory, with captions read at another `clip_skip`."""

    @property
    def drawn(self) -> Base:
        """What it draws as: itself, or with the noise path of the sibling that draws in its place."""

    def drawing(self) -> AbstractContextManager[Base]:
        """Give `drawn`; for that long the denoiser has the weights that pictures are drawn with."""

    def encode_images(self, pixels_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode pixels in [-1, 1]: posterior mean and std in the denoiser's units, both (B, C, H, W) fp32."""

    def decode_latents(self, latent_BCHW: torch.Tensor) -> torch.Tensor:
        """Decode latents: pixels in about [-1, 1], fp32."""

    def encode_captions(self, captions: Sequence[str]) -> Text:
        """Encode captions: Text, with gradient when a text encoder has an adapter; none is cut."""

    def chunks(self, caption: str) -> int:
        """Count the pieces in which a caption is read; those of one number need no padding beside each other."""

    def stack(self, rows: Sequence[Text], empty: Text) -> Text:
        """Put rows of `encode_captions` together; shorter ones get what "" is encoded to, `empty`, behind them."""

    def predict(self, noisy_BCHW: torch.Tensor, t_B: torch.Tensor, text: Text, frames: Sequence[Frame]) -> torch.Tensor:
        """Answer as `path.target` does, (B, C, H, W) fp32, with whatever adapter, mode and gradient are in force."""

    def unprompted(self, text: Text) -> Text:
        """Return what is asked beside the prompts, of encoded negative prompts; the same rows."""

    def guide(self, without: torch.Tensor, with_prompt: torch.Tensor, guidance: float) -> torch.Tensor:
        """Go on from the answer without the prompt, past the one with it; 1 is the latter, (B, C, H, W)."""

    def features(
        self, noisy_BCHW: torch.Tensor, t_B: torch.Tensor, text: Text, frames: Sequence[Frame]
    ) -> torch.Tensor:
        """Tell what the denoiser sees, by its middle; (B, D, h, w) fp32."""

    def reproduction(self, sampler: str, steps: int) -> dict[str, Any]:
        """Tell by which pipeline, scheduler and first noise diffusers draws the same; JSON."""


class Adapter(Protocol):
    """Trainable weights living inside a base's modules, until removed.

    `lorasweep/components/adapters/<name>.py` has `build(base: Base, *, seed: int, **knobs) -> Adapter`.
    """

    def parameters(self) -> Mapping[str, Sequence[torch.nn.Parameter]]:
        """Return trainable tensors by part of `Base.parts`, the denoiser first. fp32."""

    def set_weight(self, weight: float) -> None:
        """Set the sampling weight as UIs mean it: 0 is the base exactly, 1 is as trained. Training runs at 1."""

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return trainable tensors by a stable name; `load_state_dict` restores them bit for bit."""

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore tensors; raises AdapterError when names or shapes differ."""

    def save(self, path: Path) -> None:
        """Write a .safetensors, a LoRA as diffusers' `load_lora_weights` reads it, others as LyCORIS."""

    def load(self, path: Path) -> None:
        """Restore the tensors that `save` wrote; raises AdapterError when they are not this adapter's."""

    def remove(self) -> None:
        """Take the adapter out; the base's modules and outputs are again what they were."""


@dataclass(frozen=True)
class Factors:
    """What an adapter adds to a layer's weight: scale * up @ down; convolutions' are (R, I, h, w) and (O, R, 1, 1)."""

    down: torch.Tensor
    up: torch.Tensor
    scale: float


@runtime_checkable
class Factored(Protocol):
    """An adapter that may be nothing but products: several such are trained in one forward."""

    def factors(self) -> Mapping[torch.nn.Module, Factors] | None:
        """Return the products by layer, for the next batch and with gradient; None when it is more than products."""


@runtime_checkable
class DrawsPerBatch(Protocol):
    """An adapter that takes another shape for each batch that it trains on, as DyLoRA takes a rank."""

    def draw(self, seed: int) -> None:
        """Take the shape that `seed` stands for, until the next call; out of train mode it has no effect."""


@runtime_checkable
class Mergeable(Protocol):
    """An adapter that can be added to the base's own weights for a while: faster to look at, the same."""

    def merged(self, weight: float) -> AbstractContextManager[None]:
        """Act as after `set_weight(weight)` within the block; then the base's weights return bit for bit."""


@runtime_checkable
class TellsChanges(Protocol):
    """An adapter that tells what it adds to each weight: `norms`, calibration and whole exports are for such."""

    layers: Mapping[str, Any]  # those that it is in, by `unet.<module>`; `get_base_layer()` of each is the base's own

    def delta(self, layer: Any) -> torch.Tensor:
        """Return what it adds to a layer's weight at weight 1, shaped as that."""

    def by_module(self) -> Mapping[str, Mapping[str, torch.nn.Parameter]]:
        """Return the trainable tensors by the path in `layers` that they change, then by their name in `state_dict`."""


class Metric(Protocol):
    """One question about an adapter.

    `lorasweep/components/metrics/<name>.py` has `build(**knobs) -> Metric` and, torch-free,
    `names(recipe, plan) -> {name: why it cannot be measured, or ""}`. Facts of the module: `NEEDS_PICTURES`
    (False: forward passes only), `PROBES`, the probe sets that it asks (without it: any of them), and
    `SYMPTOMS`, the `Symptom`s of being overcooked that are read from it.
    """

    def measure(self, context: JudgeContext) -> Measurement:
        """Measure; what cannot be measured is in `missing` with its reason."""


class Encoder(Protocol):
    """Turns pictures into features."""

    @property
    def fingerprint(self) -> str:
        """Of everything that decides the features: what they are cached by."""

    def encode(self, pictures: ImageList) -> dict[str, torch.Tensor]:
        """Return features by name, each (B, ...) in float32 on the CPU, one row per picture; B of any size >= 1."""


class JudgeContext(Protocol):
    """One adapter at one step, about to be judged: all that a metric may ask. N rows of a set of probes."""

    recipe: Recipe  # what was trained
    plan: Plan  # its images, captions and prompts
    adapter: Adapter  # live in the base, and to be left as it is
    weight: float  # the judged LoRA weight
    step: int  # optimizer steps so far
    history: Sequence[Mapping[str, float]]  # values of the earlier rungs, oldest first
    reader: Any  # reads a dollhouse picture back (`lorasweep.dollhouse.reader`); None on any other base
    gallery: Gallery | None  # the dataset as pictures
    trains_text: bool  # whether the adapter sits in the text encoder too, so that its parts can be judged apart
    probe_sets: Collection[SetName]  # the sets of probes that there are

    def losses(
        self,
        name: SetName,
        weight: float,
        *,
        trigger: bool = True,
        part: Part = "both",
        first_noise: bool = False,
    ) -> Rows:
        """Return the squared error of the prediction per row, adapted and base.

        Without `trigger`, captions lack it; `part` of the adapter is at work. `first_noise` gives only the rows of
        every image's first noise, for questions that need fewer.
        """

    def drift(self, name: SetName, weight: float, *, part: Part = "both") -> Rows:
        """Return the squared distance between adapted and base prediction per row, beside the base's squared error."""

    def magnitudes(self, name: NoiseName) -> Magnitudes | None:
        """Tell how hard captions pull on pure noise at the judged weight; None without such captions."""

    def pictures(self, *tiers: PromptTier) -> list[Picture]:
        """Return this step's pictures of some tiers at the judged weight, tier by tier."""

    def base_pictures(self, *tiers: PromptTier) -> list[Picture]:
        """Return the base's pictures for the prompts and seeds of `pictures(*tiers)`."""

    def features(
        self, pictures: ImageList, *, encoder: Encoder | None = None, keep: bool = False
    ) -> dict[str, torch.Tensor]:
        """Return features of RGB pictures of one size, at least one, with the adapter silenced; (B, ...) by name.

        Without an encoder they are the frozen base's. `keep` pictures that come back in other trials: the base's and
        the dataset's.
        """

    def encoder(self, name: EncoderName, *, subject_only: bool = False) -> Encoder | None:
        """Return the encoder of a name, None where no copy is configured; with the background greyed out if asked."""

    def prompt_fit(self, name: EncoderName, prompts: tuple[str, ...]) -> Encoder | None:
        """Return an encoder whose "fit" (B, K) says how well pictures fit K prompts: by the base or by CLIP."""

    def memoized(self, key: str, compute: Callable[[], T]) -> T:
        """Tell what `compute` gives, computed once for this checkpoint whatever evidence is left out."""


@runtime_checkable
class WeightRegularizer(Protocol):
    """A regularizer that acts on the weights, called after each optimizer step.

    `lorasweep/components/regularizers/<name>.py` has `build(**knobs)`, which gives one of these or
    `RegularizationImages`; building needs no torch.
    """

    def after_step(self, adapter: Adapter) -> dict[str, float]:
        """Act on the weights after an optimizer step; returns what to log (may be empty)."""


@runtime_checkable
class WeightAverage(WeightRegularizer, Protocol):
    """A `WeightRegularizer`, called after all others, that has other weights judged and saved than those that train.

    Its module says `AVERAGES_WEIGHTS = True`, and may have `untrained(steps, **knobs)`, the share of the weights from
    before training in the average after so many steps, for a warning.
    """

    def start(self, adapter: Adapter) -> None:
        """Look at the weights that training starts from."""

    def for_use(self, adapter: Adapter) -> AbstractContextManager[None]:
        """Make the adapter's tensors, inside, those to judge and save; then training's return bit for bit."""

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return copies of what it keeps, on the CPU, by a stable name; `load_state_dict` restores it bit for bit."""

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore what it kept, after `start`."""


class ImagePlanner(Protocol):
    """What an image source plans its images with: `lorasweep/plan/regularization.py`."""

    @property
    def recipe(self) -> Recipe:
        """Whose images they are."""

    @property
    def name(self) -> str:
        """Of the regularizer, for its problems."""

    @property
    def train(self) -> tuple[PlannedImage, ...]:
        """The dataset's training images."""

    @property
    def trigger(self) -> str | None:
        """The word that calls the subject."""

    def wrong(self, knob: str, message: str, hint: str = "") -> InputError:
        """Return the error of one knob."""

    def found(self, root: Path) -> list[PlannedImage]:
        """Plan the images of a folder.

        Raises:
            DatasetError: with every problem of the folder, its captions and images.
        """

    def drawn(self, prompts: Sequence[str], *, each: int) -> list[PlannedImage]:
        """Plan pictures that the base draws, captioned with the prompts themselves."""

    def strangers(self, count: int) -> list[PlannedImage]:
        """Plan pictures of others of the subject's class, which the dollhouse's world draws."""


@runtime_checkable
class RegularizationImages(Protocol):
    """A regularizer that has images trained on beside the dataset's, so that something is not forgotten.

    It only plans them: no torch. The built object of `lorasweep/components/regularizers/<name>.py`.
    """

    share: float  # exposures of its images per exposure of the dataset's
    prior_loss_weight: float  # what the loss of its images is multiplied by
    target: Literal["noise", "base"]  # the right answer; "base", the base's own, then holds for all sources
    only_alone: bool  # whether its own images are wanted only when no other source brings any
    needs_dataset: bool  # whether `plan` looks at the dataset

    def plan(self, planner: ImagePlanner) -> list[PlannedImage]:
        """Plan its images; repeats as the folder says.

        Raises:
            InputError: with every problem.
        """


@dataclass(frozen=True)
class Tag:
    """One thing that is said of a picture; a sentence is one tag. Confidence is in [0, 1]."""

    text: str
    confidence: float
    kind: Literal["general", "character", "sentence"]


class Tagger(Protocol):
    """Says what pictures show (`components/taggers/`)."""

    fingerprint: str  # of all that decides what `tag` says; thresholds do not
    batch_size: int  # pictures at once
    thresholds: Mapping[str, float]  # kind of a tag -> the least confidence that is kept

    def tag(self, pictures: ImageList) -> list[list[Tag]]:
        """Return what each picture, RGB of any size, shows; tags below the thresholds may be among it."""
