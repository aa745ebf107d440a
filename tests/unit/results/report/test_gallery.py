"""Arms side by side: by place among the prompts, whatever their trigger."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image
from sweep_folders import PROMPTS, Cooked, write_sweep

from lorasweep.core import files
from lorasweep.core.run_folder import RunFolder
from lorasweep.results import sheet
from lorasweep.results.report import page
from lorasweep.results.report.gallery import (
    OTHERS_DIFFER,
    Drawn,
    Picture,
    as_judged,
    contact_sheet,
    heading,
    is_shown,
    of_base,
    of_run,
    shared,
    worth_showing,
)
from lorasweep.results.report.reading import read_findings
from lorasweep.results.report.write import write_contact_sheet


def drawn(prompt: str, trigger: str | None = None, *, seed: int = 0) -> Drawn:
    picture = Picture(file=Path("a.png"), tier="recombined", place=0, prompt=prompt, seed=seed, weight=0.7, step=1)
    return Drawn(pictures={picture.key: picture}, trigger=trigger)


KEY = ("recombined", 0, 0)


@pytest.mark.parametrize(
    ("arms", "expected"),
    [
        ([drawn("zkw, beach", "zkw"), drawn("zkw, beach", "zkw")], "zkw, beach"),
        ([drawn("zkw, beach", "zkw"), drawn("green beach, beach", "green beach")], "<trigger>, beach"),
        ([drawn("1girl, ZKW", "zkw"), drawn("1girl, mona", "mona")], "1girl, <trigger>"),
        ([drawn("zkw, beach", "zkw"), drawn("mona, snow", "mona")], f"zkw, beach {OTHERS_DIFFER}"),
        ([drawn("zkw, beach"), drawn("mona, beach")], f"zkw, beach {OTHERS_DIFFER}"),
        ([drawn("zkw, beach", "zkw"), drawn("mona, beach", "mona", seed=1)], "zkw, beach"),
    ],
    ids=["same", "trigger", "any case and place", "more than the trigger", "trigger not known", "not drawn"],
)
def test_the_heading_says_what_the_arms_have_in_common(arms: list[Drawn], expected: str) -> None:
    assert heading(KEY, arms) == expected


def test_another_seed_is_another_column() -> None:
    assert shared(drawn("a").pictures, [drawn("b")]) == [KEY]
    assert shared(drawn("a").pictures, [drawn("a", seed=1)]) == []


def two_triggers(tmp_path: Path) -> Path:
    """Two finished arms whose prompts differ in the trigger; the base has the first one's."""
    sweep = write_sweep(tmp_path / "mine", [Cooked(arm="usual"), Cooked(arm="renamed")])
    for folder, trigger in ((sweep / "0000-usual-s0", "zkw"), (sweep / "0001-renamed-s0", "mona taco")):
        files.write_json(folder / "plan.json", {"trigger": trigger})
        for index_file in sorted(folder.glob("samples/step_*/index.json")):
            index = files.read_json(index_file)
            for row in index["images"]:
                row["prompt"] = row["prompt"].replace("zkw", trigger)
            files.write_json(index_file, index)
        for row in index["images"]:  # the last, as `keep` lists it
            row["file"] = f"{index_file.parent.name}/{row['file']}"
        files.write_json(folder / "samples" / "index.json", index)
    return sweep


def test_arms_of_different_triggers_have_no_empty_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen_rows: list[sheet.Row] = []
    seen_columns: list[str] = []

    def look(rows: list[sheet.Row], columns: list[str], *, title: str) -> Image.Image:
        seen_rows.extend(rows)
        seen_columns.extend(columns)
        return Image.new("RGB", (8, 8))

    monkeypatch.setattr(sheet, "contact_sheet", look)
    assert write_contact_sheet(two_triggers(tmp_path)) is not None

    assert [len(pictures) for _, pictures in seen_rows] == [len(PROMPTS)] * 3
    assert all(picture is not None for _, pictures in seen_rows for picture in pictures)
    assert seen_columns == [
        "as trained\n<trigger>, 1girl, red dress, beach",
        "recombined\n<trigger>, 1girl, blue coat, snow",
        f"no trigger\n{PROMPTS['class']}",
        f"unrelated\n{PROMPTS['unrelated']}",
    ]


def test_the_page_shows_them_all_too(tmp_path: Path) -> None:
    findings = read_findings(two_triggers(tmp_path))
    text = page.render(findings)
    table, ladders = (
        re.findall(f'<section id="{part}">.*?</section>', text, re.S)[0] for part in ("pictures", "ladder")
    )

    assert table.count("<img") == 3 * len(PROMPTS)
    assert "&lt;trigger&gt;, 1girl, red dress, beach" in table
    assert ["mona taco, 1girl, red dress" in each for each in ladders.split("<details")].count(True) == 1
    assert 'class="none"' not in table + ladders  # the base too is found by place


def test_pictures_know_their_step_and_place(tmp_path: Path) -> None:
    sweep = two_triggers(tmp_path)

    assert {picture.step for picture in of_base(sweep)} == {0}
    assert {picture.step for picture in of_run(RunFolder(sweep / "0000-usual-s0"))} == {80, 160, 240, 320}
    rows = files.read_json(sweep / "base_samples" / "index.json")["images"]
    doubled = [{**row, "prompt": prompt, "seed": seed} for seed in (0, 1) for row in rows for prompt in "ab"]
    files.write_json(sweep / "base_samples" / "index.json", {"images": doubled})
    keys = [picture.key for picture in of_base(sweep) if picture.tier == "class"]
    assert keys == [("class", 0, 0), ("class", 1, 0), ("class", 0, 1), ("class", 1, 1)]


def test_the_contact_sheet_shows_the_best_first_and_who_still_trains(tmp_path: Path) -> None:
    cooked = [Cooked(arm="poor", overcook=0.9), Cooked(arm="good"), Cooked(arm="new", status="RUNNING", rungs=(80,))]
    findings = read_findings(write_sweep(tmp_path / "mine", cooked))
    shown = contact_sheet(findings, findings.shown)

    assert shown is not None
    assert [head.text.split("\n")[0] for head, _ in shown.rows] == ["base model", "good", "poor", "new"]
    assert shown.rows[1][0].text.endswith("\ndone")


def test_of_many_arms_the_best_and_the_last_of_those_ranked_are_shown(tmp_path: Path) -> None:
    ranked = [Cooked(arm=f"a{n:02d}", overcook=n / 40, pictures=False) for n in range(20)]
    live = [Cooked(arm=arm, status="RUNNING", rungs=(80, 160), pictures=arm == "live") for arm in ("live", "blank")]
    findings = read_findings(write_sweep(tmp_path / "mine", [*ranked, *live]))
    places = [*range(12), *range(16, 20)]
    assert [trial.state.arm for trial in worth_showing(findings)] == [f"a{n:02d}" for n in places]
    (trial,) = findings.of_arm("live")
    assert {picture.step for picture in as_judged(trial)} == {160}, "of one that still trains the latest"
    sheet_ = contact_sheet(findings, [trial, *findings.of_arm("blank")])
    assert sheet_ is not None and sheet_.left_out == 21, "all but the one that has pictures"


def test_people_are_shown_two_strangers_and_all_of_the_rest() -> None:
    assert [is_shown(("class", place, 0)) for place in range(3)] == [True, True, False]
    assert is_shown(("unrelated", 2, 0))
