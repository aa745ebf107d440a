"""Booru taggers of the WD family: v1.4 and v3, a folder with `model.onnx` and `selected_tags.csv`.

A picture on a white square goes in as it is, BGR in [0, 255] and not normalised; what comes out is a confidence
per line of the table.

Source: kohya-ss/sd-scripts, finetune/tag_images_by_wd14_tagger.py and library/utils.py, resize_image, at
12b4c906. Departures: pictures are seen as training sees them (upright, colour profiles and 16 bits converted),
a line of the table is told by its own category, not by its place, and faces of any length keep their underscores.
"""

from __future__ import annotations

import csv
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from lorasweep.components.taggers import _folder
from lorasweep.core import files
from lorasweep.core.protocols import ImageList, Tag
from lorasweep.core.ranges import Count, Text
from lorasweep.core.records import digest
from lorasweep.data import captions

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

Threshold = Annotated[float, Field(ge=0.01, le=1, description="0.35 is usual, 0.85 for characters")]
_LEAST = 0.01  # confidence that is remembered, so that other thresholds need no second look
_VERSION = 1  # of what is made of a picture
_MODEL, _TABLE = "model.onnx", "selected_tags.csv"
_COLUMNS = ["tag_id", "name", "category"]
_WHITE = 255
_KINDS: dict[str, Literal["general", "character", "rating"]] = {"0": "general", "4": "character", "9": "rating"}


def problems(*, path: str) -> list[tuple[str, str, str]]:
    """Check the folder and its table."""
    if importlib.util.find_spec("onnxruntime") is None:
        return [("name", "wd needs onnxruntime, which is not installed", "pip install 'lorasweep[caption]'")]
    if found := _folder.problems(path, (_MODEL, _TABLE)):
        return found
    rows = _rows(path)
    if not rows or rows[0][:3] != _COLUMNS:
        message = (
            f"{_TABLE} must begin with the columns {', '.join(_COLUMNS)}, got {', '.join(rows[0] if rows else [])}"
        )
        return [("path", message, "take it from the same place as model.onnx")]
    for number, row in enumerate(rows[1:], 2):
        if len(row) < 3 or row[2] not in _KINDS:
            message = (
                f"{_TABLE}:{number} must have category 0, 4 or 9 (general, character, rating), got {','.join(row)}"
            )
            return [("path", message, "is it of another family?")]
    return []


def build(
    *, path: Text, threshold: Threshold, character_threshold: Threshold, underscores: bool, batch_size: Count
) -> WdTagger:
    """Load the model and let it look at a blank picture.

    Raises:
        ConfigError: the model cannot be loaded, is of another family, or its table does not fit.
    """
    import onnxruntime

    folder = Path(path).expanduser()
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 4
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
    try:
        session = onnxruntime.InferenceSession(folder / _MODEL, quiet, providers=providers)
    except Exception as error:  # onnxruntime's have no family
        reason = str(error).splitlines()[0]
        raise _folder.refused(f"{_MODEL} cannot be loaded: {reason}", "is it whole? download it again") from error
    given, *more = session.get_inputs()
    batch, *shape = given.shape
    if more or len(shape) != 3 or shape[2] != 3 or shape[0] != shape[1] or not isinstance(shape[0], int):
        message = f"{_MODEL} must take one batch of square pictures, height x width x 3, got {given.shape}"
        raise _folder.refused(message, "is it of another family?")
    tagger = WdTagger(
        session=session,
        input_name=given.name,
        side_px=shape[0],
        fixed_batch=batch if isinstance(batch, int) else None,
        tags=[(row[1] if underscores else captions.spaced(row[1]), _KINDS[row[2]]) for row in _rows(path)[1:]],
        batch_size=batch if isinstance(batch, int) else batch_size,
        thresholds={"general": threshold, "character": character_threshold},
        fingerprint=digest([_VERSION, *(files.file_digest(folder / name) for name in (_MODEL, _TABLE)), underscores]),
    )
    tagger.require_fit()
    return tagger


@dataclass(frozen=True, kw_only=True)
class WdTagger:
    """See `protocols.Tagger`."""

    session: Any
    input_name: str
    side_px: int
    fixed_batch: int | None  # pictures that the model wants at once; None for any number
    tags: list[tuple[str, Literal["general", "character", "rating"]]]  # of every confidence, in the model's order
    batch_size: int
    thresholds: dict[str, float]
    fingerprint: str

    def tag(self, pictures: ImageList) -> list[list[Tag]]:
        """Return general tags and characters, ratings left out."""
        return [
            [
                Tag(text, float(confidence), kind)
                for (text, kind), confidence in zip(self.tags, row, strict=True)
                if kind != "rating" and confidence >= _LEAST
            ]
            for row in self._confidences(pictures)
        ]

    def require_fit(self) -> None:
        """Refuse a model whose answer is no confidence per line of the table.

        Raises:
            ConfigError: as said.
        """
        from PIL import Image

        answer = self._confidences([Image.new("RGB", (8, 8), "white")])
        if answer.shape != (1, len(self.tags)):
            message = f"{_TABLE} has {len(self.tags)} tags, and {_MODEL} answers with {answer.shape[-1]}"
            raise _folder.refused(message, "take both from the same place")
        if not ((answer >= 0) & (answer <= 1)).all():
            raise _folder.refused(f"{_MODEL} must answer with confidences in [0, 1]", "is it of another family?")

    def _confidences(self, pictures: ImageList) -> np.ndarray[Any, Any]:
        import numpy as np

        batch = np.stack([prepare(picture, self.side_px) for picture in pictures])
        missing = max(0, (self.fixed_batch or 0) - len(pictures))
        batch = np.pad(batch, ((0, missing), (0, 0), (0, 0), (0, 0)))
        found: np.ndarray[Any, Any] = self.session.run(None, {self.input_name: batch})[0]
        return found[: len(pictures)]


def prepare(picture: Image.Image, side_px: int) -> np.ndarray[Any, Any]:
    """Put an RGB picture in the middle of a white square and bring it to size: (side, side, 3), BGR, float32.

    Larger ones are averaged over areas, as OpenCV's INTER_AREA does; smaller ones enlarged by Pillow's Lanczos.
    """
    import numpy as np
    from PIL import Image

    size = max(picture.size)
    left, top = ((size - side) // 2 for side in picture.size)
    if size < side_px:
        square = Image.new("RGB", (size, size), "white")
        square.paste(picture, (left, top))
        resized = np.asarray(square.resize((side_px, side_px), Image.Resampling.LANCZOS), np.float32)
    else:
        rows, columns = _areas(picture.height, top, size, side_px), _areas(picture.width, left, size, side_px)
        ink = np.asarray(picture, np.float32) - _WHITE  # of paper: none
        narrow = columns @ ink.transpose(1, 0, 2).reshape(picture.width, -1)
        small = rows @ narrow.reshape(side_px, picture.height, 3).transpose(1, 0, 2).reshape(picture.height, -1)
        mean = small.reshape(side_px, side_px, 3) + _WHITE
        # OpenCV rounds halves up where four pixels become one, else to even.
        resized = np.floor(mean + 0.5) if size == 2 * side_px else np.rint(mean)
    return np.ascontiguousarray(resized[:, :, ::-1], np.float32)


def _areas(length: int, offset: int, size: int, side: int) -> Any:
    """Return the share (side x length, sparse) of each pixel of a line at an offset in each of `side` equal parts."""
    import numpy as np
    from scipy.sparse import csr_array

    edges = np.arange(side + 1) * (size / side)
    pixels = offset + np.arange(length)
    ends = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return csr_array(np.clip(ends, 0, None) * (side / size), dtype=np.float32)


def _rows(path: str) -> list[list[str]]:
    with open(Path(path).expanduser() / _TABLE, encoding="utf-8", errors="replace", newline="") as stream:
        return list(csv.reader(stream))
