"""A GPU that is none: tensors that say they are on `cuda:0`, and refuse to meet those of the CPU.

    with pretend_cuda(): ...     `.to("cuda")` and `device="cuda"` work, on any machine

Numbers are computed on the CPU, so what is shown is where things are, not how fast or how they round. What
CUDA refuses is refused: operands on two devices, `numpy`, generators of the CPU. Moving to the CPU cuts the
graph of gradients. Knows nothing about lorasweep.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode

CUDA = torch.device("cuda", 0)
_CPU = torch.device("cpu")
_aten = torch.ops.aten
_DATA: Any = torch.Tensor.data
_COPIES = (_aten.copy_.default, _aten._to_copy.default)
_INDEXING = (_aten.index.Tensor, _aten.index_put_.default)
_MADE_BY_THE_ENGINE = (_aten.index_put.default,)  # into zeros where it takes the gradient to be
_ANSWERS = (_aten._local_scalar_dense.default, _aten.equal.default)  # no tensors
# Bits of a tensor, which its content's own kernels would not see here.
_AT_ONCE = {_aten._conj.default: _aten._conj_physical.default, _aten._neg_view.default: _aten.neg.default}
_WAITED_FOR = (*_ANSWERS, _aten.nonzero.default, _aten.masked_select.default)
waits: list[str] = []  # where the host has waited for the device


class OnCuda(torch.Tensor):
    """A tensor of the GPU; `content` has its numbers."""

    content: torch.Tensor
    has_float64 = True
    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)

    @staticmethod
    def __new__(cls: type[OnCuda], content: torch.Tensor) -> OnCuda:
        if content.dtype == torch.float64 and not cls.has_float64:
            raise TypeError("the device does not have float64")
        made: OnCuda = torch.Tensor._make_wrapper_subclass(
            cls,
            content.shape,
            strides=content.stride(),
            storage_offset=content.storage_offset(),
            dtype=content.dtype,
            device=_CPU,  # to torch's own engine, which would look for a driver
            requires_grad=content.requires_grad,
        )
        made.content = content.detach()
        return made

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    __array__ = numpy

    def tolist(self) -> Any:
        waits.append("tolist")
        return self.content.tolist()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        # Copies in another's layout or type are made where torch's own engine takes that one to be.
        wanted = None if func in (_aten.new_empty_strided.default, _aten._to_copy.default) else kwargs.get("device")
        if kwargs.get("device") is not None:
            kwargs["device"] = _CPU
        if isinstance(kwargs.get("generator"), torch.Generator):
            raise RuntimeError(f"{func}: a generator of the CPU for cuda:0")
        # Indices may come from the CPU, and numbers without dimensions.
        mixed = func in (*_COPIES, *_MADE_BY_THE_ENGINE) or (func in _INDEXING and isinstance(args[0], OnCuda))

        def content(tensor: torch.Tensor) -> torch.Tensor:
            if isinstance(tensor, OnCuda):
                return tensor.content
            if tensor.ndim and not mixed:
                raise RuntimeError(f"{func}: expected all tensors on one device, found cuda:0 and cpu")
            return tensor

        plain_args = _over(content, args)
        plain_kwargs = {key: _over(content, value) for key, value in kwargs.items()}
        if func in _WAITED_FOR:
            waits.append(str(func))
        out = _AT_ONCE.get(func, func)(*plain_args, **plain_kwargs)
        if func in _ANSWERS or (wanted is not None and torch.device(wanted).type == "cpu"):
            return out
        if func._schema.is_mutable:
            return kwargs.get("out", args[0]) if isinstance(out, torch.Tensor) else out
        return _over(OnCuda, out)


def _over(change: Callable[[torch.Tensor], torch.Tensor], found: Any) -> Any:
    """Change the tensors in what an operation is given or gives; torch's own walk takes most of the time."""
    if isinstance(found, torch.Tensor):
        return change(found)
    if isinstance(found, list | tuple):
        return type(found)([_over(change, each) for each in found])
    return found


class _Pretend(TorchFunctionMode):
    """Catches what names a device before torch looks for a driver."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func == _DATA.__get__ and isinstance(args[0], OnCuda):
            return OnCuda(args[0].content)
        if func == _DATA.__set__ and any(isinstance(tensor, OnCuda) for tensor in args):
            args[0].content = args[1].content
            return None
        if func is torch.Tensor.cpu:
            waits.append("moved to cpu")
            return _moved(args[0], _CPU)
        if func is torch.Tensor.cuda:
            return _moved(args[0], CUDA)
        if func is torch.Tensor.to:
            return _to(*args, **kwargs)
        if func is torch.Tensor.new_tensor and isinstance(args[0], OnCuda):
            return OnCuda(args[0].content.new_tensor(*args[1:], **kwargs))
        if (
            func is torch._C._nn.pad_sequence
        ):  # which makes what it fills where torch's own engine takes its parts to be
            return _padded(*args)
        if "device" in kwargs and kwargs["device"] is not None and torch.device(kwargs["device"]).type == "cuda":
            if isinstance(kwargs.get("generator"), torch.Generator):
                raise RuntimeError(f"{func}: a generator of the CPU for cuda:0")
            if func in (torch.tensor, torch.as_tensor):
                waits.append("made from numbers")
            made = func(*args, **{**kwargs, "device": _CPU})
            return OnCuda(made) if isinstance(made, torch.Tensor) and not isinstance(made, OnCuda) else made
        return func(*args, **kwargs)


def _to(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    for like in (*args, *kwargs.values()):
        if isinstance(like, torch.Tensor):
            return _moved(tensor.to(like.dtype), like.device)
    kwargs.pop("memory_format", None)
    is_waited_for = not kwargs.get("non_blocking")
    device, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
    if dtype is not None:
        tensor = tensor.to(dtype)
    if device is None:
        return tensor
    if is_waited_for and (device.type == "cuda") != isinstance(tensor, OnCuda):
        waits.append(f"moved to {device}")
    return _moved(tensor, device)


def _padded(parts: Any, batch_first: bool, value: float, *_: Any) -> torch.Tensor:
    most = max(map(len, parts))
    rows = [
        torch.nn.functional.pad(each, (*[0, 0] * (each.ndim - 1), 0, most - len(each)), value=value) for each in parts
    ]
    return torch.stack(rows, 0 if batch_first else 1)


def _moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    if device.type == "cuda":
        return tensor if isinstance(tensor, OnCuda) else OnCuda(tensor)
    return tensor.content.clone() if isinstance(tensor, OnCuda) else tensor


@contextlib.contextmanager
def pretend_cuda(*, float64: bool = True) -> Iterator[None]:
    """Within, `cuda` is a device; tensors made there go on being of it in another such block.

    Without `float64` it refuses that precision, as `mps` does.
    """
    state = torch.zeros(16, dtype=torch.uint8)
    with (
        mock.patch("torch.cuda.device_count", lambda: 1),
        mock.patch("torch.cuda.get_device_properties", lambda *_: SimpleNamespace(total_memory=80 * 2**30)),
        mock.patch("torch.cuda.get_rng_state", lambda *_: state),
        mock.patch("torch.cuda.set_rng_state", lambda *_: None),
        mock.patch("torch.cuda.manual_seed_all", lambda *_: None),
        # By which a module that moves knows whether its parameters can stay the same objects.
        mock.patch(
            "torch._has_compatible_shallow_copy_type",
            lambda *both: len({isinstance(each, OnCuda) for each in both}) == 1,
        ),
        mock.patch.object(OnCuda, "has_float64", float64),
        _Pretend(),
    ):
        yield
