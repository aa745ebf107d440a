"""The catalogue's arithmetic, pinned to what `make_bucket_resolutions` of sd-scripts (48d368fa) returns."""

from __future__ import annotations

import pytest
import shipped
import yaml

from lorasweep.components.buckets import all_under_area, chosen, kohya
from lorasweep.config import conf_dir
from lorasweep.core.errors import ConfigError
from lorasweep.core.records import BaseOptions, Bucket

SD = BaseOptions(name="stable_diffusion", path=None, resolution=512, bucket_step=64)
DOLLHOUSE = BaseOptions(name="dollhouse", path=None, resolution=64, bucket_step=8)


def sizes(buckets: tuple[Bucket, ...]) -> list[tuple[int, int]]:
    return [(b.width_px, b.height_px) for b in buckets]


@pytest.mark.parametrize(
    ("area", "low", "high", "step", "count"),
    [
        (512 * 512, 256, 1024, 64, 17),
        (512 * 512, 256, 1024, 32, 33),
        (512 * 512, 256, 1024, 8, 129),
        (640 * 640, 256, 1024, 64, 17),
        (768 * 768, 256, 1024, 64, 19),
        (512 * 768, 256, 1024, 64, 19),
        (1024 * 1024, 256, 2048, 64, 41),
        (1024 * 1024, 512, 2048, 64, 33),
    ],
)
def test_kohya_makes_as_many_buckets_as_sd_scripts(area: int, low: int, high: int, step: int, count: int) -> None:
    buckets = kohya.resolutions(area, low, high, step)

    assert len(buckets) == count
    assert list(buckets) == sorted(buckets)
    assert all(b.width_px % step == 0 and b.height_px % step == 0 for b in buckets)
    assert all(b.width_px * b.height_px <= area for b in buckets)


def test_kohya_512_is_the_list_that_trainers_print() -> None:
    portrait = [
        (256, 832),
        (256, 896),
        (256, 960),
        (256, 1024),
        (320, 704),
        (320, 768),
        (384, 640),
        (448, 576),
    ]
    expected = sorted([*portrait, (512, 512), *((h, w) for w, h in portrait)])

    assert sizes(kohya.build(SD, min_side=256, max_side=1024, upscale=True)) == expected


def test_one_dollhouse_pixel_stands_for_eight() -> None:
    for build in (kohya.build, all_under_area.build):
        small = sizes(build(DOLLHOUSE, min_side=256, max_side=1024, upscale=True))
        large = sizes(build(SD, min_side=256, max_side=1024, upscale=True))
        assert [(8 * w, 8 * h) for w, h in small] == large


def test_all_under_area_is_55_sizes_of_47_shapes() -> None:
    found = sizes(all_under_area.build(SD, min_side=256, max_side=1024, upscale=True))

    assert len(found) == len(set(found)) == 55
    assert len({w / h for w, h in found}) == 47


def test_bounds_are_rounded_to_steps_as_sd_scripts_does() -> None:
    loose = kohya.build(SD, min_side=300, max_side=1000, upscale=True)  # 256 and 1024 after rounding

    assert loose == kohya.build(SD, min_side=256, max_side=1024, upscale=True)


def test_bounds_must_enclose_the_resolution() -> None:
    with pytest.raises(ConfigError, match="must enclose the resolution"):
        kohya.build(SD, min_side=640, max_side=1024, upscale=True)


def test_chosen_sizes_scale_with_the_base_and_keep_their_order() -> None:
    listed = ((512, 512), (448, 576), (384, 640))

    assert sizes(chosen.build(SD, sizes=listed, upscale=True)) == list(listed)
    assert sizes(chosen.build(DOLLHOUSE, sizes=listed, upscale=True)) == [(64, 64), (56, 72), (48, 80)]


def test_every_size_that_does_not_fit_the_step_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        chosen.build(SD, sizes=((512, 512), (500, 512), (32, 512)), upscale=True)

    messages = [problem.message for problem in caught.value.problems]
    assert len(messages) == 2
    assert "[500, 512]" in messages[0] and "multiples" in messages[0]
    assert "[32, 512]" in messages[1] and "smaller" in messages[1]


def test_lists_that_make_no_sense_are_problems() -> None:
    assert "at least one size" in shipped.problems(chosen, sizes=[], upscale=True)[0][1]
    assert "must not repeat a size" in shipped.problems(chosen, sizes=[[512, 512], [512, 512]], upscale=True)[0][1]
    assert not shipped.problems(chosen, sizes=[[512, 512]], upscale=True)
    assert [key for key, _, _ in shipped.problems(kohya, min_side=0, max_side=10)] == ["min_side"]
    assert "must be >= min_side (20)" in shipped.problems(kohya, min_side=20, max_side=10)[0][1]


SDXL = BaseOptions(name="stable_diffusion", path=None, resolution=1024, bucket_step=64)


def sizes_of(name: str, base: BaseOptions) -> list[tuple[int, int]]:
    """The sizes of a file of conf/buckets/."""
    knobs = yaml.safe_load((conf_dir() / "buckets" / f"{name}.yaml").read_text(encoding="utf-8"))
    build = {"chosen": chosen.build, "kohya": kohya.build, "all_under_area": all_under_area.build}
    return sizes(build[knobs.pop("name")](base, **knobs))


@pytest.mark.parametrize(
    ("name", "base", "count"),
    [
        ("single", SD, 1),
        ("four", SD, 4),
        ("five", SD, 5),
        ("kohya", SD, 17),
        ("kohya_no_upscale", SD, 17),
        ("all_under_area", SD, 55),
        ("kohya", SDXL, 33),
        ("sdxl_kohya", SDXL, 41),
        ("sdxl", SDXL, 40),
    ],
)
def test_shipped_sets_have_as_many_sizes_as_they_say(name: str, base: BaseOptions, count: int) -> None:
    found = sizes_of(name, base)
    assert len(found) == len(set(found)) == count
    assert all(side % base.bucket_step == 0 for size in found for side in size)


def test_sdxls_list_is_the_papers() -> None:
    """Podell et al. (2023), appendix I: about 1024 x 1024 pixels each, 1/4 to 4, and not quite mirrored."""
    found = sizes_of("sdxl", SDXL)
    assert all(0.9 * 1024**2 <= width * height <= 1024**2 * 1.01 for width, height in found)
    assert (found[0], found[1], found[-1]) == ((1024, 1024), (2048, 512), (512, 2048))
    unmirrored = {(width, height) for width, height in found if (height, width) not in found}
    assert unmirrored == {(1344, 704)}
    with pytest.raises(ConfigError, match="multiples of base.bucket_step"):
        sizes_of("sdxl", SD)
