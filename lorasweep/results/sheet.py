"""A sheet of pictures that a person can judge at a glance: arms down, prompts across.

Takes pictures and words, gives back one Pillow image. A label's first line is its name; further lines are set
smaller and lighter. Knows nothing about run folders, metrics or torch.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

Row = tuple[str, Sequence[Image.Image | None]]
"""A label and a picture per column; None leaves the place empty."""

CELL_PX = 128  # pictures are enlarged by whole factors up to it, or shrunk to twice it
GAP_PX = 6
MARGIN_PX = 24
ROW_LABEL_PX = 190
LINE_SPACING = 1.32

PAPER, EMPTY = (252, 251, 248), (240, 238, 233)
INK, GREY = (32, 31, 36), (112, 109, 118)


def contact_sheet(rows: Sequence[Row], columns: Sequence[str], *, title: str = "") -> Image.Image:
    r"""Lay arms (rows, the base first) against prompts (columns), all drawn from equal seeds; RGB on a light ground.

    A row's label reads like "adamw\nutility 0.71, done", a column's like "in_distribution\nzkw, 1girl, beach".

    Raises:
        ValueError: no row, or a row with another number of pictures than there are columns.
    """
    if not rows or any(len(pictures) != len(columns) for _, pictures in rows):
        got = [len(pictures) for _, pictures in rows]
        raise ValueError(f"every row must have one picture per column ({len(columns)}), got {got}")
    cell_px = _cell([picture for _, pictures in rows for picture in pictures if picture is not None])
    width_px = 2 * MARGIN_PX + ROW_LABEL_PX + len(columns) * (cell_px[0] + GAP_PX) - GAP_PX
    heading = _wrap(title, width_px - 2 * MARGIN_PX, [TITLE]) if title else []
    headers = [_wrap(column, cell_px[0]) for column in columns]
    labels = [_wrap(label, ROW_LABEL_PX - 2 * GAP_PX) for label, _ in rows]
    heading_px = _height(heading) + 2 * GAP_PX * bool(heading)
    header_px = max((_height(lines) for lines in headers), default=0) + 2 * GAP_PX
    heights_px = [max(cell_px[1], _height(lines)) for lines in labels]
    total_px = 2 * MARGIN_PX + heading_px + header_px + sum(heights_px) + GAP_PX * (len(rows) - 1)

    sheet = Image.new("RGB", (width_px, total_px), PAPER)
    pen = ImageDraw.Draw(sheet)
    _write(pen, (MARGIN_PX, MARGIN_PX), heading)
    top, left = MARGIN_PX + heading_px + header_px, MARGIN_PX + ROW_LABEL_PX
    for place, lines in enumerate(headers):
        # headers stand on the pictures, so that short ones do not float
        _write(pen, (left + place * (cell_px[0] + GAP_PX), top - 2 * GAP_PX - _height(lines)), lines)
    for lines, height_px, (_, pictures) in zip(labels, heights_px, rows, strict=True):
        _write(pen, (MARGIN_PX, top + 2), lines)
        for column, picture in enumerate(pictures):
            _paste(sheet, picture, (left + column * (cell_px[0] + GAP_PX), top), cell_px)
        top += height_px + GAP_PX
    return sheet


# -------------------------------------------------------------------------------------------- pictures


def _cell(pictures: Sequence[Image.Image]) -> tuple[int, int]:
    """Return width and height in px of every place: the largest picture after scaling."""
    sizes = [_scaled(picture.size) for picture in pictures] or [(CELL_PX, CELL_PX)]
    return max(width for width, _ in sizes), max(height for _, height in sizes)


def _scaled(size: tuple[int, int]) -> tuple[int, int]:
    """Return whole factors for small pictures, so that every pixel stays the same size; large ones shrink."""
    side = max(size)
    if side <= CELL_PX:
        return size[0] * (CELL_PX // side), size[1] * (CELL_PX // side)
    factor = min(1.0, 2 * CELL_PX / side)
    return round(size[0] * factor), round(size[1] * factor)


def _paste(sheet: Image.Image, picture: Image.Image | None, corner: tuple[int, int], cell_px: tuple[int, int]) -> None:
    if picture is None:
        x, y = corner
        ImageDraw.Draw(sheet).rectangle((x, y, x + cell_px[0] - 1, y + cell_px[1] - 1), fill=EMPTY)
        return
    size = _scaled(picture.size)
    scaled = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    sheet.paste(scaled, (corner[0] + (cell_px[0] - size[0]) // 2, corner[1] + (cell_px[1] - size[1]) // 2))


# --------------------------------------------------------------------------------------------- words


@dataclass(frozen=True)
class _Style:
    size_px: int
    color: tuple[int, int, int]

    @property
    def font(self) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        return _font(self.size_px)

    @property
    def line_px(self) -> int:
        return round(self.size_px * LINE_SPACING)


@functools.cache
def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)


TITLE, NAME, TEXT = _Style(21, INK), _Style(15, INK), _Style(12, GREY)

_Line = tuple[str, _Style]


def _wrap(label: str, width_px: int, styles: Sequence[_Style] = (NAME, TEXT)) -> list[_Line]:
    """Break a label into lines that fit; its first line has the first style, further ones the last."""
    lines = []
    for number, paragraph in enumerate(label.split("\n")):
        style = styles[min(number, len(styles) - 1)]
        line = ""
        for word in paragraph.split():
            for piece in _cut(word, width_px, style):
                joined = f"{line} {piece}".strip()
                if line and style.font.getlength(joined) > width_px:
                    lines.append((line, style))
                    joined = piece
                line = joined
        lines.append((line, style))
    return lines


def _cut(word: str, width_px: int, style: _Style) -> list[str]:
    """Cut a word that is wider than a line into pieces that are not, after `_` or `-` where there is one."""
    pieces = [""]
    for letter in word:
        if pieces[-1] and style.font.getlength(pieces[-1] + letter) > width_px:
            end = max(pieces[-1].rfind(mark) for mark in "_-") + 1 or len(pieces[-1])
            pieces[-1:] = [pieces[-1][:end], pieces[-1][end:]]
        pieces[-1] += letter
    return pieces


def _height(lines: Sequence[_Line]) -> int:
    return sum(style.line_px for _, style in lines)


def _write(pen: ImageDraw.ImageDraw, corner: tuple[int, int], lines: Sequence[_Line]) -> None:
    x, y = corner
    for text, style in lines:
        pen.text((x, y), text, font=style.font, fill=style.color)
        y += style.line_px
