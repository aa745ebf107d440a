"""How much of a forward and a backward pass has to be held at once, by family: where `Family.kept` has its numbers.

    python -m benchmarks.memory [--precision fp32] [FAMILY ...]

Denoisers of real sizes without weights: shapes alone go through the product's own `predict` (torch's fake tensors), one
picture, a LoRA of dim 16 on `attn-mlp`, bf16 autocast with norms in fp32 as CUDA has it, attention that keeps no
scores. Prints bytes per latent position: of a training step, of one with gradient checkpointing, and of a pass without
gradients. Weights are not counted; the LoRA's casts and gradients are, where the most is held while they are there.
"""

from __future__ import annotations

import argparse
import functools
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from benchmarks.gpu import SHAPES, Case, Shape, make_base
from lorasweep.components.adapters import lora
from lorasweep.components.bases import _families, _footprint
from lorasweep.core.records import Frame, MemoryOptions

_CPU = torch.device("cpu")
_SD35_MEDIUM = {
    "num_layers": 24,
    "num_attention_heads": 24,
    "caption_projection_dim": 1536,
    "dual_attention_layers": tuple(range(13)),
    "qk_norm": "rms_norm",
    "pos_embed_max_size": 384,
}
_SD35_LARGE = {
    "num_layers": 38,
    "num_attention_heads": 38,
    "caption_projection_dim": 2432,
    "qk_norm": "rms_norm",
    "pos_embed_max_size": 192,
}
_KLEIN = {"guidance_embeds": False}
_KLEIN_4B = {"num_layers": 5, "num_single_layers": 20, "num_attention_heads": 24, "joint_attention_dim": 7680}
_KLEIN_9B = {"num_layers": 8, "num_single_layers": 24, "num_attention_heads": 32, "joint_attention_dim": 12288}
_LUMINA_NARROW = {"hidden_size": 288, "num_attention_heads": 3, "num_kv_heads": 1, "multiple_of": 32}


def _flow(family: Any, text: dict[str, tuple[int, ...]], **config: Any) -> Shape:
    return Shape(family, 128, 16, text, config=config)


T5: dict[str, tuple[int, ...]] = {"embeds": (512, 4096)}
SHAPES_OF = {
    "stable_diffusion": [SHAPES["sd15"], SHAPES["sdxl"]],
    "flux1_dev": [_flow(_families.FLUX1_DEV, {**T5, "pooled": (768,)}, guidance_embeds=True)],
    "chroma": [_flow(_families.CHROMA, T5)],
    "z_image": [_flow(_families.Z_IMAGE, {"embeds": (512, 2560)})],
    "flux2_klein": [
        Shape(_families.FLUX2_KLEIN, 128, 32, {"embeds": (512, 7680)}, config=_KLEIN | _KLEIN_4B),
        Shape(_families.FLUX2_KLEIN, 128, 32, {"embeds": (512, 12288)}, config=_KLEIN | _KLEIN_9B),
    ],
    "anima": [_flow(_families.ANIMA, {"embeds": (512, 1024)}, num_attention_heads=16, extra_pos_embed_type=None)],
    "qwen_image": [_flow(_families.QWEN_IMAGE, {"embeds": (512, 3584)})],
    "sd35": [
        _flow(_families.SD35, {"embeds": (333, 4096), "pooled": (2048,)}, **config)
        for config in (_SD35_MEDIUM, _SD35_LARGE)
    ],
    "krea2": [_flow(_families.KREA2, {"embeds": (512, 12, 2560)})],
    "ideogram4": [Shape(_families.IDEOGRAM4, 128, 32, {"embeds": (512, 53248)}, config={})],
    "ernie_image": [Shape(_families.ERNIE_IMAGE, 128, 32, {"embeds": (512, 3072)}, config={"text_in_dim": 3072})],
    "lumina2": [Shape(_families.LUMINA2, 128, 16, {"embeds": (256, 2304)}, _LUMINA_NARROW, {"cap_feat_dim": 2304})],
    "qwen_image_21": [Shape(_families.QWEN_IMAGE_21, 64, 64, {"embeds": (512, 4096)}, {"num_attention_heads": 2})],
}


class _Live(TorchDispatchMode):
    """Count the bytes of what is made under it and has not been let go."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self.count(tensor)
        return made

    def count(self, tensor: torch.Tensor, size: int | None = None) -> None:
        """Count a tensor's storage, unless it is known."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes() if size is None else size
            self.now += self._sizes[key]
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self.now -= self._sizes.pop(key)


class _NoPadding:
    """The mask of captions that are as long as the longest."""

    def __init__(self, length: int) -> None:
        self.length, self.shape = length, (1, length)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*tree_map_only(cls, cls.whole, args), **(kwargs or {}))

    def whole(self) -> torch.Tensor:
        """The mask itself."""
        return torch.ones(self.shape, dtype=torch.bool)

    def __mul__(self, number: int) -> torch.Tensor:
        return self.whole() * number

    def any(self, axis: int) -> _NoPadding:
        """No caption is empty."""
        return self

    def to(self, *args: Any) -> _NoPadding:
        """Stay."""
        return self

    def is_floating_point(self) -> bool:
        """It is of booleans."""
        return False

    def all(self) -> bool:
        """All tokens are words."""
        return True

    def sum(self, axis: int) -> torch.Tensor:
        """How many there are."""
        return torch.tensor([self.length])


@contextmanager
def _norms_in_fp32() -> Iterator[None]:
    def precise(norm: Any) -> Any:
        @functools.wraps(norm)
        def call(input: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            args, kwargs = tree_map_only(torch.Tensor, torch.Tensor.float, (args, kwargs))
            answer: torch.Tensor = norm(input.float(), *args, **kwargs)
            return answer

        return call

    with ExitStack() as stack:
        for name in ("layer_norm", "group_norm"):
            stack.enter_context(mock.patch.object(functional, name, precise(getattr(functional, name))))
        yield


def bytes_held(shape: Shape, *, precision: str, gradient_checkpointing: bool = False, trained: bool = True) -> float:
    """Count the most bytes per latent position that one picture takes at once.

    Args:
        shape: of the denoiser.
        precision: fp32 or bf16.
        gradient_checkpointing: in a training step.
        trained: or asked without gradients.
    """
    memory = MemoryOptions(gradient_checkpointing=gradient_checkpointing)
    # Some ask their tensors for numbers, which shapes alone do not have: narrow ones have them.
    is_real = bool(shape.tiny) and shape.family.denoiser == "transformer"
    case = Case(name="", memory=memory, precision=precision)
    base = make_base(shape, case, "cpu" if is_real else "meta", small=is_real)
    weights = {name: tuple(each.shape) for name, each in base.denoiser.named_parameters() if name.endswith("weight")}
    wider = shape.family.kept[0][0] / _footprint.width_of(weights) if is_real else 1.0
    lora.build(base, seed=0, dim=16, alpha=16.0, dropout=0.0, targets="attn-mlp", text_encoder=False)
    mode = None if is_real else FakeTensorMode(allow_non_fake_inputs=True)
    if mode:
        _fake(base.denoiser, mode)
    base.device = _CPU
    base.denoiser.train()
    side, tokens = shape.side, shape.text["embeds"][0]
    with mode or nullcontext(), _norms_in_fp32(), _Live() as live:
        for parameter in base.denoiser.parameters():
            live.count(parameter, 0)
        text: Any = {name: torch.randn(1, *size, dtype=base.dtype) for name, size in shape.text.items()}
        text["mask"] = torch.ones(1, tokens, dtype=torch.bool) if is_real else _NoPadding(tokens)
        noisy_BCHW, frames = torch.randn(1, shape.channels, side, side), [Frame.whole(8 * side, 8 * side)]
        with torch.set_grad_enabled(trained), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            answer_BCHW = base.predict(noisy_BCHW, torch.full((1,), 0.5), text, frames)
        if trained:
            answer_BCHW.square().mean().backward()
    return live.most / side**2 * wider


def _fake(model: torch.nn.Module, mode: FakeTensorMode) -> None:
    """Have a model of shapes alone behave as one in the machine's memory would."""
    faked = functools.partial(mode.fake_tensor_converter.from_meta_and_device, mode, device=_CPU)
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = faked(buffer)
        for name, weight in module.named_parameters(recurse=False):
            module._parameters[name] = torch.nn.Parameter(faked(weight.data), requires_grad=weight.requires_grad)


def main() -> None:
    """Print the numbers of families."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=", ".join(SHAPES_OF))
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    asked = parser.parse_args()
    for name in asked.families or SHAPES_OF:
        for shape in SHAPES_OF[name]:
            held = functools.partial(bytes_held, shape, precision=asked.precision)
            numbers = held(), held(gradient_checkpointing=True), held(trained=False)
            print(f"{name:16}", *(f"{round(number, -3):12,.0f}" for number in numbers), flush=True)


if __name__ == "__main__":
    main()
