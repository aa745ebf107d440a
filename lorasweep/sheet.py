"""Sheets of pictures that a person can judge at a glance: arms, weights or steps down, prompts across.

Takes pictures and words, gives back one Pillow image. A label's first line is its name; further lines are set
smaller and lighter. Knows nothing about run folders, metrics or torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

Row = tuple[str, Sequence[Image.Image | None]]
"""A label and a picture per column; None leaves the place empty."""

CELL_PX = 128  # pictures are enlarged by whole factors up to it, or shrunk to twice it
GAP_PX = 6
MARGIN_PX = 24
ROW_LABEL_PX = 190
NAME_SIZE, TEXT_SIZE, TITLE_SIZE = 15, 12, 21
LINE_SPACING = 1.32

PAPER, EMPTY = (252, 251, 248), (240, 238, 233)
INK, GREY, ACCENT = (32, 31, 36), (112, 109, 118), (196, 72, 44)


def contact_sheet(rows: Sequence[Row], columns: Sequence[str], *, title: str = "") -> Image.Image:
    r"""Lay arms (rows, the base first) against prompts (columns), all drawn from equal seeds.

    Args:
        rows: label and pictures; a label reads like "adamw\nutility 0.71, done".
        columns: one label per column, like "in_distribution\nzkw, 1girl, beach".
        title: a line above everything; empty for none.

    Returns:
        An RGB image on a light background.

    Raises:
        ValueError: no row, or a row with another number of pictures than there are columns.
    """
    return _draw(rows, columns, title, marked=None)


def ladder(
    weights: Mapping[float, Sequence[Image.Image | None]],
    columns: Sequence[str],
    *,
    counts: float,
    title: str = "",
) -> Image.Image:
    """Lay LoRA weights (rows, ascending) against prompts for one adapter; `counts` is the judged one."""
    ascending = sorted(weights)
    rows = [
        (f"weight {weight:g}" + ("\njudged" if weight == counts else ""), weights[weight])
        for weight in ascending
    ]
    return _draw(rows, columns, title, marked=ascending.index(counts) if counts in weights else None)


def strip(
    steps: Mapping[int, Sequence[Image.Image | None]],
    columns: Sequence[str],
    *,
    done_at: int | None = None,
    title: str = "",
) -> Image.Image:
    """Lay training steps (rows, ascending; 0 is the base) against prompts, marking where it is done."""
    ascending = sorted(steps)
    names = {step: f"step {step}" if step else "base" for step in ascending}
    rows = [(names[step] + ("\ndone" if step == done_at else ""), steps[step]) for step in ascending]
    return _draw(rows, columns, title, marked=ascending.index(done_at) if done_at in ascending else None)


# --------------------------------------------------------------------------------------------- layout


@dataclass(frozen=True)
class _Fonts:
    title: ImageFont.FreeTypeFont | ImageFont.ImageFont
    name: ImageFont.FreeTypeFont | ImageFont.ImageFont
    text: ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class _Line:
    text: str
    size: int
    is_name: bool

    @property
    def height_px(self) -> int:
        return round(self.size * LINE_SPACING)


def _draw(rows: Sequence[Row], columns: Sequence[str], title: str, *, marked: int | None) -> Image.Image:
    if not rows or any(len(pictures) != len(columns) for _, pictures in rows):
        got = [len(pictures) for _, pictures in rows]
        raise ValueError(f"every row must have one picture per column ({len(columns)}), got {got}")
    fonts = _Fonts(*(ImageFont.load_default(size) for size in (TITLE_SIZE, NAME_SIZE, TEXT_SIZE)))
    cell_px = _cell([picture for _, pictures in rows for picture in pictures if picture is not None])
    headers = [_wrap(column, cell_px[0], fonts) for column in columns]
    labels = [_wrap(label, ROW_LABEL_PX - 2 * GAP_PX, fonts) for label, _ in rows]
    title_px = round(TITLE_SIZE * 1.9) if title else 0
    header_px = max((_height(lines) for lines in headers), default=0) + 2 * GAP_PX
    heights_px = [max(cell_px[1], _height(lines)) for lines in labels]
    sheet = Image.new(
        "RGB",
        (
            2 * MARGIN_PX + ROW_LABEL_PX + len(columns) * (cell_px[0] + GAP_PX) - GAP_PX,
            2 * MARGIN_PX + title_px + header_px + sum(heights_px) + GAP_PX * (len(rows) - 1),
        ),
        PAPER,
    )
    pen = ImageDraw.Draw(sheet)
    if title:
        pen.text((MARGIN_PX, MARGIN_PX), title, font=fonts.title, fill=INK)
    top = MARGIN_PX + title_px
    left = MARGIN_PX + ROW_LABEL_PX
    for place, lines in enumerate(headers):
        # headers stand on the pictures, so that short ones do not float
        _write(
            pen,
            (left + place * (cell_px[0] + GAP_PX), top + header_px - 2 * GAP_PX - _height(lines)),
            lines,
            fonts,
        )
    top += header_px
    for place, (lines, (_, pictures)) in enumerate(zip(labels, rows, strict=True)):
        if place == marked:
            pen.rectangle((MARGIN_PX - 10, top, MARGIN_PX - 6, top + heights_px[place] - 1), fill=ACCENT)
        _write(pen, (MARGIN_PX, top + 2), lines, fonts)
        for column, picture in enumerate(pictures):
            _paste(sheet, picture, (left + column * (cell_px[0] + GAP_PX), top), cell_px)
        top += heights_px[place] + GAP_PX
    return sheet


def _cell(pictures: Sequence[Image.Image]) -> tuple[int, int]:
    """Width and height in px of every place: the largest picture after scaling."""
    sizes = [_scaled(picture.size) for picture in pictures] or [(CELL_PX, CELL_PX)]
    return max(width for width, _ in sizes), max(height for _, height in sizes)


def _scaled(size: tuple[int, int]) -> tuple[int, int]:
    """Whole factors for small pictures, so that every pixel stays the same size; large ones shrink."""
    side = max(size)
    if side <= CELL_PX:
        return size[0] * (CELL_PX // side), size[1] * (CELL_PX // side)
    factor = min(1.0, 2 * CELL_PX / side)
    return round(size[0] * factor), round(size[1] * factor)


def _paste(
    sheet: Image.Image, picture: Image.Image | None, corner: tuple[int, int], cell_px: tuple[int, int]
) -> None:
    if picture is None:
        x, y = corner
        ImageDraw.Draw(sheet).rectangle((x, y, x + cell_px[0] - 1, y + cell_px[1] - 1), fill=EMPTY)
        return
    size = _scaled(picture.size)
    scaled = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    sheet.paste(scaled, (corner[0] + (cell_px[0] - size[0]) // 2, corner[1] + (cell_px[1] - size[1]) // 2))


# --------------------------------------------------------------------------------------------- words


def _wrap(label: str, width_px: int, fonts: _Fonts) -> list[_Line]:
    """Break a label into lines that fit; a word that is wider than a line is cut."""
    lines = []
    for number, paragraph in enumerate(label.split("\n")):
        font, size = (fonts.name, NAME_SIZE) if number == 0 else (fonts.text, TEXT_SIZE)
        line = ""
        for word in paragraph.split():
            while font.getlength(word) > width_px:
                fits = next(
                    n for n in range(len(word), 0, -1) if font.getlength(word[:n]) <= width_px or n == 1
                )
                if line:
                    lines.append(_Line(line, size, number == 0))
                    line = ""
                lines.append(_Line(word[:fits], size, number == 0))
                word = word[fits:]
            joined = f"{line} {word}".strip()
            if font.getlength(joined) > width_px:
                lines.append(_Line(line, size, number == 0))
                joined = word
            line = joined
        lines.append(_Line(line, size, number == 0))
    return lines


def _height(lines: Sequence[_Line]) -> int:
    return sum(line.height_px for line in lines)


def _write(pen: ImageDraw.ImageDraw, corner: tuple[int, int], lines: Sequence[_Line], fonts: _Fonts) -> None:
    x, y = corner
    for line in lines:
        pen.text(
            (x, y),
            line.text,
            font=fonts.name if line.is_name else fonts.text,
            fill=INK if line.is_name else GREY,
        )
        y += line.height_px
