"""Pictures: drawing them, and the index by which anyone draws them again with diffusers alone.

    requests (`plan.sample_requests`)  ->  draw(base, adapter)  ->  write  ->  samples/step_000100/{*.png, index.json}

Every picture has a generator of its own, seeded on the CPU by the request, so that it depends on neither its
neighbours in the batch nor the device, and the base and the adapter start from the same noise. No global
generator is read or moved. Reading an index imports no torch. Knows nothing about training, metrics or
tracking.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from lorasweep.core import files
from lorasweep.core.protocols import Adapter, Base, Text
from lorasweep.core.records import Frame, SampleOptions
from lorasweep.core.run_folder import INDEX_FILE, NO_INDEX, pictures_in
from lorasweep.plan.sample_requests import ImageRequest
from lorasweep.trial import lora_weight
from lorasweep.trial.denoise import denoise

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A picture that was drawn."""

    file: Path  # absolute
    request: ImageRequest

    def open(self) -> Image.Image:
        """Read the picture, RGB."""
        with Image.open(self.file) as image:
            return image.convert("RGB")


def draw(
    base: Base, adapter: Adapter | None, requests: Sequence[ImageRequest], options: SampleOptions
) -> list[Image.Image]:
    """Draw the requests, batched over those of equal weight and size; RGB, in their order.

    The base is left as it was; without an adapter it is drawn whatever the requests' weights say.
    """
    drawn: dict[int, Image.Image] = {}
    with base.drawing() as base:
        for weight, size_px, places in _groups(base, requests, options.batch_size):
            batch = [requests[place] for place in places]
            with lora_weight.lora_weight(base, adapter, weight):
                text, negative = _texts(base, batch, guided=options.guidance > 1)
                latent_BCHW = denoise(
                    base,
                    _noise_batch(base, batch),
                    text,
                    negative,
                    [Frame.whole(*size_px)] * len(batch),
                    sampler=options.sampler,
                    steps=options.steps,
                    guidance=options.guidance,
                    rescale=options.guidance_rescale,
                )
                drawn.update(zip(places, pictures(base.decode_latents(latent_BCHW)), strict=True))
    return [drawn[place] for place in range(len(requests))]


def pictures(pixels_BCHW: torch.Tensor) -> list[Image.Image]:
    """Return pixels in [-1, 1] as RGB pictures, what lies beyond cut off."""
    levels_BCHW = ((pixels_BCHW.clamp(-1, 1) + 1) * 127.5).round().byte().cpu()
    return [Image.fromarray(levels_CHW.permute(1, 2, 0).numpy(), "RGB") for levels_CHW in levels_BCHW]


def _groups(
    base: Base, requests: Sequence[ImageRequest], batch_size: int
) -> Iterator[tuple[float, tuple[int, int], list[int]]]:
    """Yield (weight, size, places in `requests`) for batches of pictures that do not depend on each other."""

    def key(place: int) -> tuple[float, tuple[int, int], int]:
        request = requests[place]
        chunks = max(base.chunks(request.prompt), base.chunks(request.negative_prompt))
        return request.weight, (request.width_px, request.height_px), chunks

    for (weight, size_px, _), group in itertools.groupby(sorted(range(len(requests)), key=key), key=key):
        places = list(group)
        for start in range(0, len(places), batch_size):
            yield weight, size_px, places[start : start + batch_size]


def _texts(base: Base, batch: Sequence[ImageRequest], *, guided: bool) -> tuple[Text, Text | None]:
    """Encode each distinct prompt once, at the weight in force; a row a picture."""
    prompts, negatives = [r.prompt for r in batch], [r.negative_prompt for r in batch] if guided else []
    distinct = list(dict.fromkeys([*prompts, *negatives]))
    encoded = base.encode_captions(distinct)

    def rows(texts: Sequence[str]) -> Text:
        return {name: tensor[[distinct.index(text) for text in texts]] for name, tensor in encoded.items()}

    return rows(prompts), rows(negatives) if guided else None


def _noise_batch(base: Base, batch: Sequence[ImageRequest]) -> torch.Tensor:
    import torch

    shape = base.latent.of(batch[0].width_px, batch[0].height_px)
    return torch.stack([torch.randn(shape, generator=_generator(r.seed), dtype=base.dtype) for r in batch])


def _generator(seed: int) -> torch.Generator:
    import torch

    return torch.Generator("cpu").manual_seed(seed)


def write(
    folder: Path,
    requests: Sequence[ImageRequest],
    images: Sequence[Image.Image],
    *,
    base: Base,
    options: SampleOptions,
    adapter_file: str | None,
) -> list[Sample]:
    """Write the pictures of some requests as PNG and, last, `index.json`, so that an index never names a missing file.

    Files of the same name are replaced. `base` and `options` are those given to `draw`; `adapter_file` is relative to
    the run folder, None for the base's own pictures.

    Raises:
        ValueError: two requests differ in nothing but their size.
    """
    folder.mkdir(parents=True, exist_ok=True)
    how = _how(base, options)
    entries, samples = [], []
    for name, request, image in zip(_names(requests), requests, images, strict=True):
        files.write_atomic(folder / name, lambda path, image=image: image.save(path))  # type: ignore[misc]
        shape = (1, *base.latent.of(request.width_px, request.height_px))
        entries.append(
            {"file": name, **_renamed(asdict(request))}
            | {"sampler": options.sampler, "steps": options.steps, "guidance": options.guidance}
            | {"noise": _noise(request.seed, shape, how), "adapter": adapter_file}
        )
        samples.append(Sample(file=(folder / name).resolve(), request=request))
    files.write_json(folder / INDEX_FILE, {"how": how, "images": entries})
    return samples


def read_index(folder: Path) -> list[Sample]:
    """Read what `write` left in a folder, in the order in which it was asked for.

    Raises:
        FileNotFoundError: there is no index.
    """
    return [Sample(file=file, request=_request(entry)) for file, entry in pictures_in(folder)]


def read_whole(folder: Path) -> dict[ImageRequest, Sample]:
    """Read the pictures of a folder that can be opened, by what was asked for; none where there is no whole index."""
    found = {}
    with contextlib.suppress(*NO_INDEX):
        for drawn in read_index(folder):
            with contextlib.suppress(OSError):
                drawn.open()
                found[drawn.request] = drawn
    return found


_WRITTEN_AS = {"width_px": "width", "height_px": "height"}


def _renamed(request: dict[str, Any]) -> dict[str, Any]:
    return {_WRITTEN_AS.get(name, name): value for name, value in request.items()}


def _request(entry: dict[str, Any]) -> ImageRequest:
    return ImageRequest(**{f.name: entry[_WRITTEN_AS.get(f.name, f.name)] for f in fields(ImageRequest)})


def _names(requests: Sequence[ImageRequest]) -> list[str]:
    """Name each picture by tier, place of its prompt in the tier, seed and weight."""
    prompts: dict[str, list[str]] = {}
    names = []
    for request in requests:
        tier = prompts.setdefault(request.tier, [])
        if request.prompt not in tier:
            tier.append(request.prompt)
        place = tier.index(request.prompt)
        names.append(f"{request.tier}_{place:02d}_seed{request.seed}_w{request.weight:g}.png")
    if len(set(names)) < len(names):
        raise ValueError("requests of one folder must differ in tier, prompt, seed or weight")
    return names


def _how(base: Base, options: SampleOptions) -> dict[str, Any]:
    """Return everything besides a picture's own entry that diffusers needs to draw it again."""
    own, base = options.guidance_rescale, base.drawn
    return {
        "base": base.fingerprint,
        **({"drawn_with": Path(options.base).name} if options.base else {}),
        **base.reproduction(options.sampler, options.steps),
        "guidance_rescale": base.path.rescale if own is None else own,
        "dtype": str(base.dtype).removeprefix("torch."),
    }


def _noise(seed: int, shape: tuple[int, ...], how: dict[str, Any]) -> str:
    generator = f"torch.Generator('cpu').manual_seed({seed})"
    draw = f"torch.randn({shape}, generator={generator}, dtype=torch.{how['dtype']})"
    return f"{draw} * {how['init_noise_sigma']:.8g}"
