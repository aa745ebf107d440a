"""Names with HTML, markup or terminal escapes: in the report, in tables, in errors, in captions."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest
from clean_dataset import photos
from PIL import Image
from sweep_folders import Cooked, write_sweep

from lorasweep.cli import main
from lorasweep.core import files, printable
from lorasweep.core.run_folder import RunFolder
from lorasweep.results.report import gallery, page, write
from lorasweep.results.report.reading import read_findings
from lorasweep.results.tracking.reading import read_sweep, read_trial
from lorasweep.results.tracking.sweep_content import sweep_content

EVIL = '<img src=x onerror="alert(1)">\x1b[31m</title></script><script>alert(2)</script>\u202e[red]{{x}}'


class Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    handle_startendtag = handle_starttag


def evil_sweep(folder: Path) -> Path:
    """People's text wherever it can be: no gate was passed, as in a folder that somebody else made."""
    trials = [
        Cooked(arm="a", note=EVIL, verdict={"sentence": EVIL, "state": EVIL, "unmeasured": {EVIL: EVIL}}),
        Cooked(arm="b", status="CRASHED", reason=EVIL),
    ]
    sweep = write_sweep(folder / "mine", trials, question=EVIL)
    files.write_json(sweep / "0000-a-s0" / "parent.json", {"parent": EVIL})
    index = files.read_json(sweep / "base_samples" / "index.json")
    for row in index["images"]:
        row["prompt"] = EVIL
    files.write_json(sweep / "base_samples" / "index.json", index)
    return sweep


def test_the_report_holds_the_words_and_none_of_the_elements(tmp_path: Path) -> None:
    text = page.render(read_findings(evil_sweep(tmp_path)))

    assert "&lt;img src=x" in text  # the words are there, as words
    elements = Elements(text).found
    assert [name for name, _ in elements].count("script") == 1
    assert not any(key.startswith("on") for _, attributes in elements for key in attributes)
    assert all((a.get("src") or "").startswith("data:") for name, a in elements if name == "img")
    assert "\x1b" not in text and "\u202e" not in text


def test_markdown_shows_it_as_text(tmp_path: Path) -> None:
    text = write.markdown_page(read_findings(evil_sweep(tmp_path)))

    assert "img src" in text and "<img" not in text and "<script" not in text and "\x1b" not in text


def test_a_metric_of_a_strangers_sweep_is_words_in_markdown(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "mine", [Cooked(arm="a")])
    manifest = (sweep / "sweep.yaml").read_text(encoding="utf-8")
    evil = manifest.replace("overcook/utility", "x/<img src=x onerror=alert(1)>")
    (sweep / "sweep.yaml").write_text(evil, encoding="utf-8")

    note = sweep_content(read_sweep(sweep), [read_trial(sweep / "0000-a-s0")]).tags["mlflow.note.content"]

    for text in (write.markdown_page(read_findings(sweep)), note):
        assert "img src" in text and "<img" not in text


def test_names_of_arms_metrics_and_axes_stay_words_in_every_attribute(tmp_path: Path) -> None:
    """They are said for screen readers and on pointing too: an attribute must not end before they do."""
    evil = 'a" onload="alert(1)\'><b>&amp;\u202e{{ 7 * 7 }}{% x %}'
    trials = [
        Cooked(arm=evil, note=evil),
        Cooked(arm="b", overrides=["adapter.dim=8"], seed=0),
        Cooked(arm="b", overrides=["adapter.dim=8"], seed=1),
    ]
    sweep = write_sweep(tmp_path / "mine", trials)
    manifest = (sweep / "sweep.yaml").read_text(encoding="utf-8")
    (sweep / "sweep.yaml").write_text(manifest.replace("overcook/utility", f"x/{evil}"), encoding="utf-8")

    text = page.render(read_findings(sweep))

    said = 'a" onload="alert(1)\'><b>&amp;�{{ 7 * 7 }}{% x %}'
    elements = Elements(text).found
    assert "b>&" not in text and not any(key.startswith("on") for _, attributes in elements for key in attributes)
    held = {key for _, attributes in elements for key, value in attributes.items() if said in (value or "")}
    assert held >= {"aria-label", "alt", "data-label"}


def test_an_index_may_only_name_its_neighbours(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "private.png")
    folder = tmp_path / "run" / "samples" / "step_000001"
    row = {"tier": "class", "prompt": "p", "seed": 0, "weight": 0.7}
    names = ["../../../private.png", str(tmp_path / "private.png"), "fine.png"]
    files.write_json(folder / "index.json", {"images": [{**row, "file": name} for name in names]})
    Image.new("RGB", (8, 8)).save(folder / "fine.png")

    assert [picture.file.name for picture in gallery.of_run(RunFolder(tmp_path / "run"))] == ["fine.png"]


def test_a_picture_that_is_none_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("<script>alert(1)</script>")

    picture = gallery.Picture(file=tmp_path / "a.png", tier="class", place=0, prompt="p", seed=0, weight=0.7, step=1)
    assert gallery.data_uri(picture) is None


@pytest.mark.parametrize("flags", [[], ["--captions"]])
def test_html_and_markup_in_names_and_captions_are_shown_as_they_are(
    flags: list[str], home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    evil = "[bold red]x [link=https:evil]y <b>z"
    root = photos(home, f"10_zkw {evil}", caption=f"zkw, {evil}")

    assert main(["plan", *flags, f"dataset.path={root}"]) == 0
    out = capsys.readouterr().out

    assert "[bold red]x" in out and "\x1b" not in out


@pytest.mark.parametrize(("name", "caption"), [("10_zkw\x1b[31m", "zkw"), ("10_zkw", "zkw, \x1b]0;pwned\x07")])
def test_escapes_in_names_and_captions_are_refused(
    name: str, caption: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", f"dataset.path={photos(home, name, caption=caption)}"]) == 2

    err = capsys.readouterr().err
    assert "control characters" in err and "\x1b" not in err and "\x07" not in err


def test_what_is_printed_all_the_same_is_made_visible() -> None:
    assert printable.visible("a\x1b[31mb\nc\td") == "a�[31mb\nc\td"
    assert printable.has_control_characters("\x9b") and not printable.has_control_characters("zoë\n\t👩‍🎨")


@pytest.mark.parametrize(
    "said",
    [
        r'arms: {"a\nEVIL": {adapter.dim: 4}}',
        r'arms: {a: {"adapter.\nEVIL": 4}}',
        r'recipe: {"train.\nEVIL": 4}',
        r'recipe: {dataset.prompts: {"in\nEVIL": [x]}}',
        r'"\nEVIL": 4',
        r'recipe: {adapter: "lora\nEVIL"}',
    ],
)
def test_a_line_break_in_a_sweep_file_breaks_no_line_of_its_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], said: str
) -> None:
    (tmp_path / "s.yaml").write_text(f"sweep:\n  question: which?\n  {said}\n", encoding="utf-8")
    assert main(["plan", str(tmp_path / "s.yaml")]) == 2
    told = capsys.readouterr().err
    assert "EVIL" in told and not any(line.lstrip().startswith("EVIL") for line in told.splitlines())
