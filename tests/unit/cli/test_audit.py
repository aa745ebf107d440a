"""Datasets with one planted fault each, through the command line: found, placed, and mended by its command."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pytest
from clean_dataset import CONCEPT, doll, make_clean, tags
from PIL import Image, ImageFilter

from lorasweep.cli import main
from lorasweep.config import compose_recipe
from lorasweep.core import paths
from lorasweep.core.hydra_text import write_text
from lorasweep.data import mending
from lorasweep.plan import make_plan

Audit = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def clean(home: Path) -> Path:
    return make_clean(home)


@pytest.fixture
def audit(capsys: pytest.CaptureFixture[str]) -> Audit:
    def run(root: Path, *words: str) -> list[dict[str, Any]]:
        capsys.readouterr()
        assert main(["audit", str(root), *words, "--json"]) == 0
        return list(json.loads(capsys.readouterr().out)["findings"])

    return run


def say(text: str, number: int = 3) -> Callable[[Path], None]:
    return lambda folder: (folder / f"{number}.txt").write_text(text) and None


def say_bytes(content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / "3.txt").write_bytes(content) and None


def say_all(change: Callable[[str], str]) -> Callable[[Path], None]:
    def plant(folder: Path) -> None:
        for file in folder.glob("*.txt"):
            file.write_text(change(file.read_text()))

    return plant


def draw(change: Callable[[Image.Image], Image.Image], name: str = "3.png") -> Callable[[Path], None]:
    def plant(folder: Path) -> None:
        picture = change(doll(3))
        (folder / "3.png").unlink()
        picture.save(folder / name)

    return plant


def bordered(picture: Image.Image) -> Image.Image:
    page = Image.new("RGB", (96, 136))
    page.paste(picture, (0, 20))
    return page


def see_through(picture: Image.Image) -> Image.Image:
    picture.putalpha(128)
    return picture


def animated(folder: Path) -> None:
    (folder / "3.png").unlink()
    doll(3).save(folder / "3.gif", save_all=True, append_images=[doll(77)])


def copied(concept: str, name: str = "30") -> Callable[[Path], None]:
    def plant(folder: Path) -> None:
        other = folder.parent / concept
        other.mkdir(exist_ok=True)
        for number in range(20, 28) if other != folder else ():
            doll(number).save(other / f"{number}.png")
            (other / f"{number}.txt").write_text(tags(number))
        doll(3).save(other / f"{name}.png")
        (other / f"{name}.txt").write_text(tags(3))

    return plant


def small_concept(folder: Path) -> None:
    other = folder.parent / "1_zkw suit"
    other.mkdir()
    for number in range(20, 28):
        doll(number).save(other / f"{number}.png")
        (other / f"{number}.txt").write_text(tags(number))


def doubled(folder: Path) -> None:
    doll(50).save(folder / "3.jpg")


def stray(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "3.txt").rename(folder / name) and None


# What is planted; level, place and a word of the finding.
FAULTS: dict[str, tuple[Callable[[Path], None], str, str, str]] = {
    "no caption": (lambda folder: (folder / "3.txt").unlink(), "must", "3.png", "no caption file"),
    "caption of no image": (lambda folder: (folder / "3.png").unlink(), "must", "3.txt", "of no image"),
    "stray suffix": (stray("3.png.txt"), "must", "3.png.txt", "of no image"),
    "empty": (say(""), "must", "3.png", "say nothing"),
    "latin-1": (say_bytes("zkw, 1girl, caf\u00e9".encode("cp1252")), "must", "3.txt", "UTF-8"),
    "utf-16": (say_bytes(tags(3).encode("utf-16")), "must", "3.txt", "UTF-8"),
    "byte order mark": (say_bytes(tags(3).encode("utf-8-sig")), "should", "3.png", "byte order mark"),
    "control characters": (say("zkw, 1girl\x07, beach"), "must", "3.txt", "control characters"),
    "several lines": (say("zkw, 1girl,\nbeach, hat"), "should", "3.png", "several lines"),
    "doubled stem": (doubled, "should", "3.png", "with the name"),
    "no trigger": (say("1girl, beach, hat"), "must", "3.png", "is not in"),
    "trigger behind": (say("1girl, beach, hat, zkw"), "should", "3.png", "not in front"),
    "misspelt": (say("zkw, zkv, 1girl, beach"), "must", "3.png", "nearly the trigger"),
    "misspelt instead": (say("zkv, 1girl, beach, hat"), "must", "3.png", "nearly the trigger"),
    "no class word": (say("zkw, beach, hat"), "should", "3.png", "class word"),
    "fused": (say_all(lambda text: f"{text}, night sky"), "should", CONCEPT, "fused"),
    "absorbed": (
        say_all(lambda text: f"{text}, red hair"),
        "note",
        CONCEPT,
        "own, in nearly every caption of 10_zkw: red hair",
    ),
    "absorbed cut": (
        say_all(lambda text: f"{text}, Bob_Cut"),
        "note",
        CONCEPT,
        "own, in nearly every caption of 10_zkw: bob cut",
    ),
    "once": (say("zkw, 1girl, beach, trombone"), "note", "3.png", "single caption"),
    "synonym": (
        lambda folder: (say("zkw, 1girl, grey hair")(folder), say("zkw, 1girl, gray hair", 4)(folder)) and None,
        "should",
        "4.png",
        "several names",
    ),
    "underscore": (say("zkw, 1girl, beach, Hat"), "should", "3.png", "several names"),
    "trigger spelt otherwise": (say("ZKW, 1girl, beach, hat"), "should", "3.png", "several names"),
    "twice": (say("zkw, 1girl, beach, hat, hat"), "should", "3.png", "twice"),
    "implied": (say("zkw, 1girl, beach, hat, red hat"), "should", "3.png", "implies"),
    "watermark": (say("zkw, 1girl, beach, watermark"), "should", "3.png", "watermark"),
    "copy": (copied(CONCEPT), "should", "30.png", "1 image is a near-duplicate of another"),
    "copy with braces in its name": (
        copied(CONCEPT, "30 {of} {}"),
        "should",
        "30 {of} {}.png",
        "1 image is a near-duplicate of another",
    ),
    "copy in two concepts": (copied("10_zkw suit"), "should", "30.png", "1 picture is in several concepts"),
    "uneven": (small_concept, "should", "1_zkw suit", "drowned"),
    "too small": (draw(lambda picture: picture.resize((24, 24))), "should", "3.png", "enlarged"),
    "blurred": (draw(lambda p: p.resize((512, 512)).filter(ImageFilter.GaussianBlur(6))), "should", "3.png", "blurred"),
    "border": (draw(bordered), "should", "3.png", "border"),
    "see-through": (draw(see_through), "note", "3.png", "see-through"),
    "cmyk": (draw(lambda p: p.convert("CMYK"), "3.jpg"), "note", "3.jpg", "CMYK"),
    "animated": (animated, "note", "3.gif", "first frame"),
    "cropped": (draw(lambda p: p.resize((300, 96))), "should", "3.png", "cropped away to fit"),
    "a panorama": (draw(lambda p: p.resize((900, 96))), "should", "3.png", "cropped away to fit"),
    "broken": (lambda folder: (folder / "3.png").write_bytes(b"\x89PNG") and None, "must", "3.png", "not an image"),
    "of no bytes": (lambda folder: (folder / "3.png").write_bytes(b"") and None, "must", "3.png", "is empty"),
    "weight": (say("zkw, 1girl, beach, (hat:1.3)"), "should", "3.png", "letter by letter"),
    "choice": (say("zkw, 1girl, {beach|city}, hat"), "should", "3.png", "letter by letter"),
    "place for a trigger": (say("[trigger], 1girl, beach, hat"), "should", "3.png", "letter by letter"),
    "held out": (lambda folder: None, "should", "", "keeps no image"),
}


def test_a_clean_dataset_has_nothing_above_a_note(clean: Path, audit: Audit) -> None:
    assert [each for each in audit(clean) if each["level"] != "note"] == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_and_its_command_mends_it(
    clean: Path, audit: Audit, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plant, level, place, said = FAULTS[fault]
    plant(clean / CONCEPT)
    words = ["dataset.holdout=0"] if fault == "held out" else []

    found = next(each for each in audit(clean, *words) if said in each["reason"])

    assert found["level"] == level
    assert any(place in each for each in found["places"]) or not place
    assert found["command"]
    assert not any(said in each["reason"] for each in mended(clean, found["command"], audit))


def test_what_is_set_aside_takes_its_caption_along_whatever_its_suffix(clean: Path, audit: Audit) -> None:
    animated(clean / CONCEPT)
    for file in (clean / CONCEPT).glob("*.txt"):
        file.rename(file.with_suffix(".caption"))
    words = ["captions.extension=.caption"]
    found = next(each for each in audit(clean, *words) if "first frame" in each["reason"])
    mended(clean, found["command"], audit)
    assert not list((clean / CONCEPT).glob("3.*"))


def test_of_copies_the_largest_is_kept_and_else_the_one_with_the_plainest_name(clean: Path, audit: Audit) -> None:
    for number, name, side_px in ((3, "3 copy.png", 96), (5, "5 large.png", 192)):
        doll(number, (side_px, side_px)).save(clean / CONCEPT / name)
        (clean / CONCEPT / name).with_suffix(".txt").write_text(tags(number))
    (found,) = (each for each in audit(clean) if "near-duplicates" in each["reason"])
    assert sorted(found["places"]) == [f"{CONCEPT}/3 copy.png", f"{CONCEPT}/5.png"]


def test_of_uneven_concepts_what_is_trained_is_counted(clean: Path, audit: Audit) -> None:
    small_concept(clean / CONCEPT)
    words = ["dataset.holdout=0.25"]
    (found,) = (each for each in audit(clean, *words) if "drowned" in each["reason"])
    seen = Counter[str]()
    for image in make_plan(compose_recipe([f"dataset.path={clean}", *words])).train_images():
        seen[image.concept] += image.repeats
    assert (seen[CONCEPT], seen["1_zkw suit"]) == (90, 6)
    assert f"{CONCEPT} is seen 90 times an epoch and 1_zkw suit 6" in found["reason"]


def test_uneven_concepts_whose_own_repeats_are_overridden_get_them_back(clean: Path, audit: Audit) -> None:
    small_concept(clean / CONCEPT)
    (clean / "1_zkw suit").rename(clean / "40_zkw suit")
    for number in range(22, 28):
        for suffix in ("png", "txt"):
            (clean / "40_zkw suit" / f"{number}.{suffix}").unlink()
    (found,) = (each for each in audit(clean, "dataset.repeats=2") if "drowned" in each["reason"])
    assert not any("drowned" in each["reason"] for each in mended(clean, found["command"], audit))


def mended(root: Path, command: str, audit: Audit) -> list[dict[str, Any]]:
    """Run a command that mends, and audit again."""
    import shlex

    program, *words = shlex.split(command)
    assert program == "lorasweep"
    if words[0] == "audit" and not {"--aside", "--rename"} & set(words):
        return audit(Path(words[1]), *words[2:])
    assert main(words) == 0
    return audit(root)


@pytest.mark.parametrize("words", [[], ["captions.add_trigger=false"]])
def test_a_trigger_that_every_caption_spells_otherwise_is_told_alone(
    clean: Path, audit: Audit, words: list[str]
) -> None:
    say_all(lambda text: text.replace("zkw", "zkv"))(clean / CONCEPT)

    (found,) = (each for each in audit(clean, "captions.trigger=zkw", *words) if each["level"] == "must")

    assert "zkw is in no caption, and zkv in 12 of 12" in found["reason"]
    assert all(each["level"] == "note" for each in mended(clean, found["command"], audit))


def test_a_slip_in_place_of_the_trigger_is_one_finding(clean: Path, audit: Audit) -> None:
    say("zkv, 1girl, beach, hat")(clean / CONCEPT)
    policy = "captions.clean.replacements={zkv: zkw}"

    assert sum(each["level"] == "must" for each in audit(clean)) == 1
    assert not any(each["level"] == "must" for each in audit(clean, policy))


@pytest.mark.parametrize("face", ["*_*", "?", "[_]"])
def test_a_face_that_is_a_pattern_goes_alone(clean: Path, audit: Audit, face: str) -> None:
    say_all(lambda text: f"{text}, blue sky, v")(clean / CONCEPT)
    say(f"zkw, 1girl, beach, {face}, blue sky, v")(clean / CONCEPT)
    before = {file: file.read_text().strip() for file in (clean / CONCEPT).glob("*.txt")}

    found = next(each for each in audit(clean) if "single caption" in each["reason"])
    mended(clean, found["command"], audit)

    before[clean / CONCEPT / "3.txt"] = "zkw, 1girl, beach, blue sky, v"
    assert {file: file.read_text().strip() for file in before} == before


def test_commands_are_quoted_for_the_shell_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    words = write_text("captions.prune", ["red hat", "^_^", "true"])
    assert words == 'captions.prune=[red hat,"^_^","true"]'
    root = Path("my set")
    assert (
        mending.rewrite(root, "captions.prune=[red hat]").split("--apply ")[1].startswith("'captions.prune=[red hat]'")
    )
    monkeypatch.setattr(mending.os, "name", "nt")
    assert mending.command("audit", "my set", "captions.prune=[red hat]") == 'audit "my set" "captions.prune=[red hat]"'


def break_many(folder: Path) -> list[Path]:
    """Break a caption and two images; returns the images."""
    (folder / "1.txt").write_bytes(b"zkw, caf\xe9")
    broken = [folder / "3.png", folder / "5.png"]
    broken[0].write_bytes(b"")
    broken[1].write_bytes(broken[1].read_bytes()[:200])
    return broken


def test_a_broken_caption_hides_no_broken_image_of_any_folder(clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    break_many(clean / CONCEPT)
    for name, number in (("apart", 40), ("class", 50)):
        (clean.parent / name).mkdir()
        doll(number).save(clean.parent / name / f"{number}.png")
        (clean.parent / name / f"{number}.txt").write_text("1girl")
        (clean.parent / name / "empty.png").touch()
    reg = ["regularization=reg_images", f"regularization.reg_images.path={clean.parent / 'class'}"]
    (clean.parent / "class" / "50.txt").write_bytes(b"caf\xe9")

    assert main(["plan", f"dataset.path={clean}", f"dataset.holdout_path={clean.parent / 'apart'}", *reg]) == 2

    told = capsys.readouterr().err
    wrong = [f"{CONCEPT}/1.txt", f"{CONCEPT}/3.png", f"{CONCEPT}/5.png", "apart/empty.png", "class/50.txt"]
    assert all(f"  {place}  " in told for place in [*wrong, "class/empty.png"])
    assert "6 problems" in told


def test_what_cannot_be_read_is_set_aside_by_one_command(
    clean: Path, audit: Audit, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = break_many(clean / CONCEPT)
    found = audit(clean)
    assert {each["places"][0] for each in found} == {f"{CONCEPT}/{name}" for name in ("1.txt", "3.png", "5.png")}

    assert main(["audit", str(clean), "--html", str(clean.parent / "look.html")]) == 0
    told, page = capsys.readouterr().out, (clean.parent / "look.html").read_text()
    assert told.count("--aside") == page.count("--aside") == 1 and told.count("3.png") == 2

    (command,) = {each["command"] for each in found if "--aside" in each["command"]}
    left = mended(clean, command, audit)
    assert [each["places"] for each in left] == [[f"{CONCEPT}/1.txt"]] and not any(map(Path.exists, broken))


@pytest.mark.parametrize("captioned", [True, False])
def test_a_plan_tells_the_way_to_what_mends(
    clean: Path, captioned: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    if not captioned:
        (clean / CONCEPT / "3.txt").unlink()

    assert main(["plan", f"dataset.path={clean}"]) == 0

    said = f"{mending.look_again(clean)}  says what mends them" in capsys.readouterr().out
    assert said is not captioned


def test_what_is_set_aside_replaces_nothing_and_stays_in_the_dataset(clean: Path, home: Path) -> None:
    (clean / "10_zkw suit").mkdir()
    doll(60).save(clean / "10_zkw suit" / "3.png")
    files = [clean / CONCEPT / "3.png", clean / "10_zkw suit" / "3.png"]
    assert main(["audit", str(clean), "--aside", *map(str, files)]) == 0
    assert not any(file.exists() for file in files)
    assert len(list((clean / ".aside").rglob("3.png"))) == 2
    doll(61).save(files[0])
    doll(62).save(home / "elsewhere.png")
    assert main(["audit", str(clean), "--aside", str(files[0]), str(clean / CONCEPT / "5.png")]) == 2
    assert main(["audit", str(clean), "--aside", str(home / "elsewhere.png")]) == 2
    assert files[0].exists() and (clean / CONCEPT / "5.png").exists() and (home / "elsewhere.png").exists()


def test_renaming_replaces_nothing_and_leads_nowhere_else(
    clean: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other, out = (str(clean / CONCEPT / "3.png"), str(clean / CONCEPT / "5.png"), str(clean / CONCEPT / "x.png"))
    (home / "elsewhere.png").touch()
    for words, said in (
        (["--rename", one, out, "--rename", other, out], "is named twice"),
        (["--rename", one, other], "is there already"),
        (["--rename", one, str(home / "x.png")], "must be in the dataset"),
        (["--aside", str(home / "elsewhere.png")], "is not in the dataset"),
        (["--aside", str(clean)], "is not in the dataset"),
    ):
        assert main(["audit", str(clean), *words]) == 2
        assert said in capsys.readouterr().err
    assert Path(one).exists() and Path(other).exists() and not Path(out).exists()


def test_a_long_caption_is_worth_a_note(clean: Path, audit: Audit) -> None:
    say("zkw, 1girl, " + ", ".join(f"tag number {n}" for n in range(60)))(clean / CONCEPT)
    (found,) = (each for each in audit(clean) if "longer than" in each["reason"])
    assert (found["level"], found["places"]) == ("note", [f"{CONCEPT}/3.png"])


def test_tags_are_named_in_the_order_of_the_captions(clean: Path, audit: Audit) -> None:
    rare = ["trombone", "anvil", "quill", "lantern", "compass", "thimble", "bellows", "sundial"]
    say(", ".join(["zkw", "1girl", "beach", *rare]))(clean / CONCEPT)
    (found,) = [each for each in audit(clean) if "single caption" in each["reason"]]
    assert f"unwanted=[{','.join(rare)}]" in found["command"]


@pytest.mark.parametrize("tag", [r"saber \(fate\)", r"a\b", 'the "hat"', r"over \\"])
def test_tags_in_commands_are_the_captions_own(clean: Path, audit: Audit, tag: str) -> None:
    """Boorus write backslashes before brackets, which must not come out doubled."""
    say(f"zkw, 1girl, beach, {tag}")(clean / CONCEPT)
    (found,) = [each for each in audit(clean) if "single caption" in each["reason"]]
    assert not [each for each in mended(clean, found["command"], audit) if "single caption" in each["reason"]]


def test_a_command_that_fills_the_screen_is_left_to_the_pages(
    clean: Path, audit: Audit, capsys: pytest.CaptureFixture[str]
) -> None:
    say(", ".join(["zkw", "1girl", "beach", *(f"rare thing {n}" for n in range(90))]))(clean / CONCEPT)
    (found,) = [each for each in audit(clean) if "single caption" in each["reason"]]

    assert main(["audit", str(clean)]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) < 600 < len(found["command"])
    assert any("--json has it" in line for line in lines)


def test_plan_says_the_same(clean: Path, audit: Audit, capsys: pytest.CaptureFixture[str]) -> None:
    say("zkw, zkv, 1girl, beach")(clean / CONCEPT)
    reasons = {each["reason"] for each in audit(clean)}

    assert main(["plan", f"dataset.path='{clean}'", "--json"]) == 0

    assert set(json.loads(capsys.readouterr().out)["warnings"]) == reasons


def test_strict_fails_on_an_open_must_alone(clean: Path) -> None:
    assert main(["audit", str(clean), "--strict"]) == 0
    say("1girl, beach")(clean / CONCEPT)
    assert main(["audit", str(clean), "--strict"]) == 1


def test_a_folder_that_is_not_there_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(home / "nowhere")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_the_page_shows_everything_and_runs_nothing(clean: Path, home: Path) -> None:
    say("zkw, 1girl, <script>alert(1)</script>")(clean / CONCEPT)
    page = home / "look.html"

    assert main(["audit", str(clean), "--html", str(page)]) == 0
    assert main(["audit", str(clean), "--html", str(page)]) == 0  # its own page is replaced

    text = page.read_text(encoding="utf-8")
    assert text.count("<figure") == 12
    assert "<script>alert" not in text
    assert 'class="tag trigger">zkw' in text
    assert "held out" in text


def test_the_page_of_somebody_else_is_kept(clean: Path, home: Path) -> None:
    page = home / "look.html"
    page.write_text("mine")
    assert main(["audit", str(clean), "--html", str(page)]) == 2
    assert page.read_text() == "mine"


def test_audit_never_imports_torch(clean: Path) -> None:
    code = (
        "import sys; from lorasweep.cli import main; main(['audit', sys.argv[1]]); "
        "assert not {'torch', 'mlflow', 'optuna'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(clean)], check=True, timeout=120, stdout=subprocess.DEVNULL)


def test_what_is_too_small_for_a_bucket_is_told_with_captions_that_cannot_be_read(clean: Path, audit: Audit) -> None:
    draw(lambda picture: picture.resize((6, 6)))(clean / CONCEPT)
    (clean / CONCEPT / "5.txt").write_bytes(b"zkw \xff")
    found = audit(clean, "buckets=kohya_no_upscale")
    assert {place: each["reason"] for each in found for place in each["places"]}.keys() == {
        f"{CONCEPT}/3.png",
        f"{CONCEPT}/5.txt",
    }
    assert any("6 x 6 px, less than one bucket step (8)" in each["reason"] for each in found)


FORMS = {"image": ("NFD", "NFC"), "caption": ("NFC", "NFD")}


@pytest.mark.parametrize("apart", FORMS)
def test_a_caption_is_its_images_though_macos_has_taken_letters_of_one_name_apart(
    clean: Path, audit: Audit, apart: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = clean / CONCEPT
    blurred = doll(3).resize((512, 512)).filter(ImageFilter.GaussianBlur(6))
    blurred.save(folder / "3.png")
    image, caption = (
        folder / normalize(form, f"zoé{end}") for form, end in zip(FORMS[apart], (".png", ".txt"), strict=True)
    )
    (folder / "3.png").rename(image)
    (folder / "3.txt").rename(caption)

    (found,) = (each for each in audit(clean) if each["level"] != "note")
    assert "blurred" in found["reason"], "and neither an image without a caption nor a caption of no image"
    assert main(["caption", str(clean), "--apply", "captions.trigger=abc", "captions.add_trigger=true", "--write",
                 "--overwrite"]) == 0  # fmt: skip
    assert caption.read_text(encoding="utf-8").startswith("abc") and len([*folder.glob("*.txt")]) == 12
    assert main(["caption", str(clean), "--undo"]) == 0
    assert [each for each in mended(clean, found["command"], audit) if each["level"] != "note"] == []
    assert not image.exists() and not caption.exists()


@pytest.mark.parametrize("apart", FORMS)
def test_rows_of_metadata_name_images_though_macos_has_taken_letters_of_one_name_apart(
    home: Path, apart: str, capsys: pytest.CaptureFixture[str]
) -> None:
    image, row = FORMS[apart]
    for number in range(4):
        doll(number).save(home / normalize(image, f"zoé{number}.png"))
    rows = [{"file_name": normalize(row, f"zoé{number}.png"), "text": tags(number)} for number in range(4)]
    (home / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert main(["plan", f"dataset.path={home}", "--json"]) == 0
    assert sorted(each["caption"] for each in json.loads(capsys.readouterr().out)["images"]) == sorted(
        map(tags, range(4))
    )


def test_two_images_that_macos_takes_for_one_keep_their_own_captions(clean: Path, audit: Audit) -> None:
    folder = clean / CONCEPT
    for form, number in (("NFC", 3), ("NFD", 5)):
        for suffix in (".png", ".txt"):
            (folder / f"{number}{suffix}").rename(folder / normalize(form, f"zoé{suffix}"))
    assert [each for each in audit(clean) if each["level"] != "note"] == []
    (folder / normalize("NFD", "zoé.txt")).unlink()
    (found,) = (each for each in audit(clean) if each["level"] != "note")
    assert "with the name, and so the caption, of another image" in found["reason"]


def test_names_are_made_whole_once_however_many_tables_there_are(
    clean: Path, audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    for tables in (1, 20):
        for number in range(tables):
            folder = clean / f"more{number}"
            folder.mkdir(exist_ok=True)
            (folder / "metadata.csv").write_text("file_name,text\n")
        seen: list[Path] = []
        monkeypatch.setattr(paths, "whole", lambda path, seen=seen: seen.append(path) or path)
        audit(clean)
        counts.append(len(seen))
    assert counts[0] == counts[1] > 0
