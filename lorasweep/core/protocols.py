"""The contracts between stages, smallest that compose. Read this first; nothing inherits from it.

Letters: B batch, C latent channels, H W latent height and width, L tokens, D text width, G timestep buckets.
torch appears in annotations only, so importing this module costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from lorasweep.core.errors import InputError
    from lorasweep.core.judging import EncoderName, Gallery, Magnitudes, NoiseName, Part, Picture, Rows, SetName
    from lorasweep.core.records import Measurement, Plan, PlannedImage, PromptTier, Recipe

T = TypeVar("T")
ImageList = Sequence["Image.Image"]
# lr of a param group at an optimizer step: (step, that group's peak lr) -> lr. Step 0 is the first update.
Schedule = Callable[[int, float], float]


class Base(Protocol):
    """A loaded Stable Diffusion base, frozen. One per process, shared by every slot.

    `lorasweep/components/bases/<name>.py` has `load(options: BaseOptions, *, device: str, precision: str) -> Base`
    and `fingerprint(options: BaseOptions) -> str` (torch-free: digest of the weight files).
    """

    unet: Any  # diffusers UNet2DConditionModel, eval mode, requires_grad False
    text_encoder: Any  # transformers CLIPTextModel
    tokenizer: Any
    vae: Any  # diffusers AutoencoderKL
    noise_schedule: Any  # diffusers DDPMScheduler: alphas_cumprod and prediction_type
    clip_skip: int  # 1 = last hidden state
    fingerprint: str
    vae_fingerprint: str  # what cached latents depend on
    text_fingerprint: str  # what cached caption embeddings depend on, clip_skip included
    device: torch.device
    dtype: torch.dtype  # of the frozen weights; adapters train in fp32

    def with_clip_skip(self, clip_skip: int) -> Base:
        """The same modules in the same memory, with captions read at another `clip_skip`."""

    def encode_images(self, pixels_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels in [-1, 1] -> posterior mean and std times the VAE's scaling factor, both (B, C, H, W)."""

    def encode_captions(self, captions: Sequence[str]) -> torch.Tensor:
        """Captions -> (B, L, D), honouring clip_skip; with gradient when the text encoder has an adapter."""

    def pipeline(self, sampler: str) -> Any:
        """A StableDiffusionPipeline over these very modules with `sampler` (ddim, euler, dpmpp_2m)."""


class Adapter(Protocol):
    """Trainable weights living inside a base's modules, until removed.

    `lorasweep/components/adapters/<name>.py` has `build(base: Base, *, seed: int, **knobs) -> Adapter`.
    """

    def parameters(self) -> Mapping[str, Sequence[torch.nn.Parameter]]:
        """Trainable tensors by part: "unet" and, when trained, "text_encoder". fp32."""

    def set_weight(self, weight: float) -> None:
        """Sampling weight as UIs mean it: 0 is the base exactly, 1 is as trained. Training runs at 1."""

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Trainable tensors by a stable name; `load_state_dict` restores them bit for bit."""

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore tensors; raises AdapterError when names or shapes differ."""

    def save(self, path: Path) -> None:
        """Write a .safetensors, a LoRA as diffusers' `load_lora_weights` reads it, others as LyCORIS."""

    def load(self, path: Path) -> None:
        """Restore the tensors that `save` wrote; raises AdapterError when they are not this adapter's."""

    def remove(self) -> None:
        """Take the adapter out; the base's modules and outputs are again what they were."""


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


class Metric(Protocol):
    """One question about an adapter.

    `lorasweep/components/metrics/<name>.py` has `build(**knobs) -> Metric` and, torch-free,
    `names(recipe, plan) -> {name: why it cannot be measured, or ""}`. Facts of the module: `NEEDS_PICTURES`
    (False: forward passes only), and `SYMPTOMS`, the `Symptom`s of being overcooked that are read from it.
    """

    def measure(self, context: JudgeContext) -> Measurement:
        """Measure; what cannot be measured is in `missing` with its reason."""


class Encoder(Protocol):
    """Turns pictures into features."""

    @property
    def fingerprint(self) -> str:
        """Of everything that decides the features: what they are cached by."""

    def encode(self, pictures: ImageList) -> dict[str, torch.Tensor]:
        """Features by name, each (B, ...) in float32 on the CPU, one row per picture; B of any size >= 1."""


class JudgeContext(Protocol):
    """One adapter at one step, about to be judged: all that a metric may ask. N rows of a set of probes."""

    @property
    def recipe(self) -> Recipe:
        """What was trained."""

    @property
    def plan(self) -> Plan:
        """Its images, captions and prompts."""

    @property
    def adapter(self) -> Adapter:
        """Live in the base, and to be left as it is."""

    @property
    def weight(self) -> float:
        """The judged LoRA weight."""

    @property
    def step(self) -> int:
        """Optimizer steps so far."""

    @property
    def history(self) -> Sequence[Mapping[str, float]]:
        """Values of the earlier rungs, oldest first."""

    @property
    def reader(self) -> Any:
        """Reads a dollhouse picture back (`lorasweep.dollhouse.reader`); None on any other base."""

    @property
    def gallery(self) -> Gallery | None:
        """The dataset as pictures."""

    @property
    def trains_text(self) -> bool:
        """Whether the adapter sits in the text encoder too, so that its parts can be judged apart."""

    @property
    def probe_sets(self) -> Collection[SetName]:
        """The sets of probes that there are."""

    @property
    def num_timesteps(self) -> int:
        """Of the base's noise schedule."""

    def losses(
        self,
        name: SetName,
        weight: float,
        *,
        trigger: bool = True,
        part: Part = "both",
        first_noise: bool = False,
    ) -> Rows:
        """Squared error of the prediction per row, adapted and base.

        Args:
            name: one of `probe_sets`.
            weight: LoRA weight.
            trigger: False asks with captions from which the trigger was removed.
            part: what of the adapter is at work.
            first_noise: only the rows of every image's first noise, for questions that need fewer.
        """

    def drift(self, name: SetName, weight: float, *, part: Part = "both") -> Rows:
        """Squared distance between adapted and base prediction per row, beside the base's squared error."""

    def magnitudes(self, name: NoiseName) -> Magnitudes | None:
        """How hard captions pull on pure noise at the judged weight; None without such captions."""

    def pictures(self, *tiers: PromptTier) -> list[Picture]:
        """This step's pictures of some tiers at the judged weight, tier by tier."""

    def base_pictures(self, *tiers: PromptTier) -> list[Picture]:
        """The base's pictures for the prompts and seeds of `pictures(*tiers)`."""

    def features(
        self, pictures: ImageList, *, encoder: Encoder | None = None, keep: bool = False
    ) -> dict[str, torch.Tensor]:
        """Features of pictures of one size, with the adapter silenced; (B, ...) by name.

        Args:
            pictures: at least one, RGB.
            encoder: the frozen base when None.
            keep: pictures that come back in other trials: the base's and the dataset's.
        """

    def encoder(self, name: EncoderName, *, subject_only: bool = False) -> Encoder | None:
        """The encoder of a name, None where no copy is configured; with the background greyed out if asked."""

    def prompt_fit(self, name: EncoderName, prompts: tuple[str, ...]) -> Encoder | None:
        """An encoder whose "fit" (B, K) says how well pictures fit K prompts: by the base or by CLIP."""

    def memoized(self, key: str, compute: Callable[[], T]) -> T:
        """What `compute` gives, computed once for this checkpoint whatever evidence is left out."""


@runtime_checkable
class Brake(Protocol):
    """A regularizer that acts on the weights, called after each optimizer step.

    `lorasweep/components/regularizers/<name>.py` has `build(**knobs) -> Brake | ImageSource`; building needs no torch.
    """

    def after_step(self, adapter: Adapter) -> dict[str, float]:
        """Act on the weights after an optimizer step; returns what to log (may be empty)."""


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
        """The error of one knob."""

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
class ImageSource(Protocol):
    """A regularizer that has images trained on beside the dataset's, so that something is not forgotten.

    It only plans them: no torch. The built object of `lorasweep/components/regularizers/<name>.py`.
    """

    @property
    def share(self) -> float:
        """Exposures of its images per exposure of the dataset's."""

    @property
    def prior_loss_weight(self) -> float:
        """What the loss of its images is multiplied by."""

    @property
    def target(self) -> Literal["noise", "base"]:
        """The right answer; "base", the base's own, then holds for the images of all sources."""

    @property
    def only_alone(self) -> bool:
        """Whether its own images are wanted only when no other source brings any."""

    @property
    def needs_dataset(self) -> bool:
        """Whether `images` looks at the dataset."""

    def images(self, planner: ImagePlanner) -> list[PlannedImage]:
        """Plan its images; repeats as the folder says.

        Raises:
            InputError: with every problem.
        """


class Latents(Protocol):
    """What training asks of the cache."""

    def mean_std(self, image: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """(C, H, W) mean and std of a `PlannedImage`'s latent."""

    def warm(self, images: Iterable[Any]) -> None:
        """Encode every `PlannedImage` that is not at hand, so that training never waits for it."""


class Texts(Protocol):
    """What training and judging ask of the caption cache."""

    def embed(self, captions: Iterable[str]) -> torch.Tensor:
        """(B, L, D) embeddings by the frozen text encoder."""

    def warm(self, captions: Iterable[str]) -> None:
        """Encode every caption that is not at hand, so that training never waits for it."""
