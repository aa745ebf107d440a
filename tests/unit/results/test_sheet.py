"""Sheets: sizes that follow from the pictures, pictures in their places, labels that fit."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from lorasweep.results import sheet

RED, BLUE = (200, 0, 0), (0, 0, 200)


def plain(color: tuple[int, int, int], size: tuple[int, int] = (64, 64)) -> Image.Image:
    return Image.new("RGB", size, color)


def test_small_pictures_are_enlarged_by_whole_factors_in_a_grid() -> None:
    rows = [("base", [plain(RED), plain(BLUE)]), ("arm", [plain(BLUE), None])]
    drawn = sheet.contact_sheet(rows, ["a", "b"])
    pixels = np.asarray(drawn)
    red, blue = ((pixels == color).all(-1).sum() for color in (RED, BLUE))
    assert (red, blue) == (128 * 128, 2 * 128 * 128)
    left = int(np.nonzero((pixels == RED).all(-1))[1].min())
    assert left == sheet.MARGIN_PX + sheet.ROW_LABEL_PX
    assert drawn.width == 2 * sheet.MARGIN_PX + sheet.ROW_LABEL_PX + 2 * 128 + sheet.GAP_PX


def test_large_pictures_shrink_and_other_shapes_keep_theirs() -> None:
    drawn = sheet.contact_sheet([("base", [plain(RED, (1024, 512))])], ["a"])
    red = np.argwhere((np.asarray(drawn) == RED).all(-1))
    assert tuple(red.max(0) - red.min(0) + 1) == (128, 256)


def test_labels_wrap_inside_their_column_even_without_spaces() -> None:
    name, text = (
        "an_arm_with_a_very_long_name_and_no_spaces_at_all",
        "zkw, 1girl, white hair, twintails, red eyes",
    )
    lines = sheet._wrap(f"{name}\n{text}", 120)
    assert "".join(line for line, style in lines if style == sheet.NAME) == name
    assert " ".join(line for line, style in lines if style == sheet.TEXT) == text
    assert max(style.font.getlength(line) for line, style in lines) <= 120
    tall = sheet.contact_sheet([(text * 6, [plain(RED)])], ["a"])
    short = sheet.contact_sheet([("arm", [plain(RED)])], ["a"])
    assert tall.height > short.height


def test_a_long_title_takes_more_lines_not_more_width() -> None:
    short, long = (sheet.contact_sheet([("arm", [plain(RED)])], ["a"], title="word " * n) for n in (1, 40))
    assert long.width == short.width and long.height > short.height


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one picture per column \(2\), got \[1\]"):
        sheet.contact_sheet([("base", [plain(RED)])], ["a", "b"])
