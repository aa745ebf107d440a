"""The page: whole by itself, for any sweep, however far it got."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from chromium import browser
from sweep_folders import Cooked, write_sweep

import lorasweep as ls
from lorasweep.cli import main
from lorasweep.core import files
from lorasweep.core.run_folder import SweepFolder
from lorasweep.results.report import page
from lorasweep.results.report.reading import read_findings
from lorasweep.results.report.write import write_report
from lorasweep.results.tracking.content import trial_content
from lorasweep.results.tracking.reading import read_sweep, read_trial

_LOADING = {"src", "href", "srcset", "data", "action", "poster", "xlink:href"}


class Read(HTMLParser):
    """Every element must be closed in order; what is loaded from where; all text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in _LOADING]
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in _LOADING]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


SWEEPS = {
    "one arm": [Cooked(arm="only")],
    "two arms": [
        Cooked(arm="good", overrides=["optimizer=prodigy"], note="the usual"),
        Cooked(arm="bad", overcook=0.9, verdict={"burned_at": 240}),
    ],
    "nothing yet": [Cooked(arm="a", status="WAITING"), Cooked(arm="b", status="WAITING")],
    "just begun": [Cooked(arm="a", status="RUNNING", rungs=()), Cooked(arm="b", status="WAITING")],
    "half way": [Cooked(arm="a", status="RUNNING", rungs=(80,)), Cooked(arm="b", status="WAITING")],
    "all failed": [Cooked(arm="a", status="DIVERGED", rungs=(), reason="loss became NaN at step 3")],
    "no pictures": [Cooked(arm="a", pictures=False)],
    "seeds": [Cooked(arm=arm, seed=seed) for seed in (0, 1, 2) for arm in ("a", "b")],
}


@pytest.fixture(params=SWEEPS)
def rendered(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    html, _ = write_report(write_sweep(tmp_path / "mine", SWEEPS[request.param]))
    return html.read_text(encoding="utf-8")


def test_every_sweep_gets_a_whole_page(rendered: str) -> None:
    read = Read(rendered)

    assert read.open == []
    assert "Which burns later?" in read.text and "Leaderboard" in read.text


def test_the_page_loads_nothing_from_anywhere(rendered: str) -> None:
    read = Read(rendered)

    assert all(load.startswith(("data:", "#")) for load in read.loads), read.loads
    assert "link" not in read.tags and "iframe" not in read.tags
    assert not re.search(r"url\(|@import", rendered)


def test_the_policy_forbids_loading_and_allows_the_script_by_its_digest(tmp_path: Path) -> None:
    html, _ = write_report(write_sweep(tmp_path / "mine", SWEEPS["two arms"]))
    text = html.read_text(encoding="utf-8")

    [script] = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)[0]
    assert f"sha256-{digest}" in policy and "default-src 'none'" in policy


def test_every_row_of_the_leaderboard_can_be_cooked_again(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "mine", SWEEPS["two arms"])
    text = Read(page.render(read_findings(folder))).text

    for trial, overrides in (("0000-good-s0", "optimizer=prodigy"), ("0001-bad-s0", "train.max_steps=320")):
        assert f"lorasweep train --from mine/{trial}" in text
        assert overrides in text
    assert "0" * 63 + "1" in text  # the fingerprint


def test_done_and_burned_are_marked_with_words(tmp_path: Path) -> None:
    text = Read(page.render(read_findings(write_sweep(tmp_path / "m", SWEEPS["two arms"])))).text

    assert "done here" in text and "burned" in text and "pictures fall apart" in text


def test_a_clock_that_was_set_back_makes_no_time_of_less_than_nothing(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "mine", SWEEPS["two arms"])
    status = folder / "0000-good-s0" / "status.json"
    files.write_json(status, {**files.read_json(status), "ended_at": 5.0})
    assert page.worked(read_findings(folder).trials) == "1 min 40 s", "of the other alone"


def test_a_big_sweep_stays_small_and_says_what_it_left_out(tmp_path: Path) -> None:
    trials = [Cooked(arm=f"p{n:03d}", identity=n / 60, overrides=[f"adapter.dim={4 + n}"]) for n in range(60)]
    html, markdown = write_report(write_sweep(tmp_path / "big", trials))

    text = Read(html.read_text(encoding="utf-8")).text
    assert html.stat().st_size < 3_000_000
    assert "40 more" in text and "44 more not shown here" in text
    assert markdown.read_text(encoding="utf-8").count("\n| ") > 60


def test_single_runs_are_reported_as_arms_of_their_own(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "train", [Cooked(arm="a"), Cooked(arm="b", identity=0.4)])
    (folder / "sweep.yaml").unlink()
    for status in folder.glob("*/status.json"):
        files.write_json(status, {**files.read_json(status), "arm": "train", "number": 0})

    findings = read_findings(folder)

    assert [row.arm for row in findings.arms] == ["0000-a-s0", "0001-b-s0"]
    assert Read(page.render(findings)).open == []


def test_a_run_remembers_what_it_was_forked_from(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "mine", [Cooked(arm="a")])
    files.write_json(folder / "0000-a-s0" / "parent.json", {"parent": "other/0003-b-s1", "overrides": []})

    assert "other/0003-b-s1" in Read(page.render(read_findings(folder))).text


def test_markdown_tells_the_same_answer(tmp_path: Path) -> None:
    _, markdown = write_report(write_sweep(tmp_path / "mine", SWEEPS["two arms"]))
    text = markdown.read_text(encoding="utf-8")

    assert text.startswith("# Which burns later?")
    assert "“good” comes out best of 2" in text and "lorasweep train --from mine/0000-good-s0" in text


def test_a_command_in_the_answer_ends_where_it_ends(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "mine", [Cooked(arm="a"), Cooked(arm="b", overcook=0.9)])
    html, markdown = (file.read_text(encoding="utf-8") for file in write_report(folder))
    assert "<code>lorasweep sweep mine --until-decided</code>" in html
    assert "`lorasweep sweep mine --until-decided`" in markdown


def test_what_lies_between_attempts_is_no_time_of_a_trial(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "mine", [Cooked(arm="a")])
    (run,) = SweepFolder(folder).runs
    times = [("start", 0), ("rung", 30), ("end", 40), ("start", 900_000), ("end", 900_020)]
    events = [{"kind": kind, "time": 1000.0 + at, "step": 320} for kind, at in times]
    rung = {"metrics": {}, "exposures_per_image": 80.0}
    files.write_jsonl(run.path / "events.jsonl", [event | rung for event in events])
    ended = {"attempt": 2, "started_at": 1000.0, "ended_at": 901_020.0}
    files.write_json(run.path / "status.json", run.status | ended)
    assert page.worked(read_findings(folder).trials) == "1 min 00 s"


def test_the_time_that_is_told_is_the_clocks(tmp_path: Path) -> None:
    """Trials that share a worker overlap: their times together are no time that anything took."""
    folder = write_sweep(tmp_path / "mine", [Cooked(arm="a"), Cooked(arm="b")])
    for run in folder.glob("0*"):
        files.write_json(run / "status.json", files.read_json(run / "status.json") | {"started_at": 0, "ended_at": 60})
    files.write_json(folder / "timing.json", {"real_s": 65.0, "done": True})
    facts = page.render(read_findings(folder)).split('class="facts"')[1].split("</ul>")[0]
    assert "1 min 05 s" in facts and "2 min" not in facts


def test_names_break_after_their_underscores(tmp_path: Path) -> None:
    html, _ = write_report(write_sweep(tmp_path / "m", [Cooked(arm="adamw_four_buckets", note="x")]))
    assert html.read_text(encoding="utf-8").count("adamw_<wbr/>four_<wbr/>buckets") == 2  # table and pictures


def test_intervals_are_told_in_numbers_too(tmp_path: Path) -> None:
    trials = [Cooked(arm=arm, seed=seed, identity=0.5 + seed / 100) for arm in "ab" for seed in range(3)]
    findings = read_findings(write_sweep(tmp_path / "m", trials))
    interval = findings.arms[0].interval
    assert interval is not None and interval.low < interval.high
    assert f"{interval.low:.3f} to {interval.high:.3f}" in Read(page.render(findings)).text
    markdown = write_report(findings.folder)[1].read_text(encoding="utf-8")
    assert "utility ± 95 % interval" in markdown and f" ± {interval.half_width:.3f} |" in markdown


def test_equal_seeds_and_their_mean_stand_in_one_place(tmp_path: Path) -> None:
    trials = [Cooked(arm=arm, seed=seed) for arm in "abc" for seed in range(3)]
    chart = page.render(read_findings(write_sweep(tmp_path / "m", trials)))
    ticks = re.findall(r'class="seed" points="([\d.]+),6', chart)
    means = re.findall(r'class="interval".*?translate\(([\d.]+) 10\)', chart, re.S)
    assert len(ticks) == 9 and len(means) == 3 and len({*ticks, *means}) == 1


def test_what_is_no_number_is_not_drawn_as_the_best(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "m", [Cooked(arm="odd"), Cooked(arm="even", overcook=0.3)])
    path = sweep / "0000-odd-s0" / "metrics.json"
    result = files.read_json(path)
    for rung in (result, *result["rungs"]):
        rung["metrics"] |= {"overcook/score": float("nan"), "identity/score": float("inf")}
    path.write_text(json.dumps(result), encoding="utf-8")

    [pareto] = re.findall(r'<section id="pareto">.*?</section>', page.render(read_findings(sweep)), re.S)
    assert "even: identity" in pareto and "of 1 trials" in pareto and "odd" not in pareto


def test_what_to_do_next_speaks_of_the_best_only_where_there_is_one(tmp_path: Path) -> None:
    trials = [Cooked(arm="worse", identity=0.1), Cooked(arm="better", identity=0.9)]
    text = Read(page.render(read_findings(write_sweep(tmp_path / "two words", trials)))).text
    assert "lorasweep export 'two words' --best" in text
    assert "lorasweep fork 'two words/0001-better-s0' train.batch_size=2" in text

    failed = [Cooked(arm="a", status="DIVERGED", reason="loss became NaN")]
    text = Read(page.render(read_findings(write_sweep(tmp_path / "m", failed)))).text
    assert "--best" not in text and "lorasweep sweep m" in text and "of the best" not in text


def test_names_of_the_lines_of_equal_utility_keep_out_of_the_crowd(tmp_path: Path) -> None:
    """Good recipes stand at the left edge, where overcooking is zero."""
    trials = [Cooked(arm=f"a{n}", identity=n / 10, overcook=0.0) for n in range(1, 10)]
    chart = page.render(read_findings(write_sweep(tmp_path / "m", trials)))
    names = re.findall(r'<text x="([\d.]+)" y="([\d.]+)"[^>]*>U 0\.', chart)
    assert len(names) == 4
    assert all(float(x) > 100 and float(y) < 50 for x, y in names)


def test_the_fronts_line_strikes_no_name_through(tmp_path: Path) -> None:
    trials = [
        Cooked(arm="plain_one", identity=0.5, overcook=0.0),
        Cooked(arm="b", identity=0.9, overcook=0.9),
    ]
    chart = page.render(read_findings(write_sweep(tmp_path / "m", trials)))
    (line_y,) = {float(y) for y in re.findall(r'class="front" points="[\d.]+,([\d.]+)', chart)}
    (baseline,) = {float(y) for y in re.findall(r'y="([\d.]+)"[^>]*>plain_one', chart)}
    assert baseline < line_y, "the name stands on the line, or above it"


def test_of_two_objectives_the_front_is_told_everywhere(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`beaten` shows the subject less than `b`, and is more overcooked."""
    trials = [
        Cooked(arm="a", identity=0.9, overcook=0.6),
        Cooked(arm="b", identity=0.6, overcook=0.2),
        Cooked(arm="beaten", identity=0.5, overcook=0.3),
        Cooked(arm="d", identity=0.3, overcook=0.1),
        Cooked(arm="stopped", identity=0.95, overcook=0.0, status="PRUNED"),
    ]
    goals = {"identity/score": "maximize", "burn/score": "minimize"}
    folder = write_sweep(home / "outputs" / "two", trials, objectives=goals)
    assert main(["report", "two"]) == 0 and main(["status", "two", "--json"]) == 0
    told = json.loads("{" + capsys.readouterr().out.partition("{")[2])
    assert (told["further"], told["front"]) == ({"burn/score": "minimize"}, ["a", "b", "d"])

    text = (folder / "report.html").read_text(encoding="utf-8")
    said = Read(text).text
    means = "no other is as good in both and better in one (more identity/score, less burn/score)"
    assert f"On the front, where {means}: “a”, “b” and “d”." in said
    assert "identity/score against burn/score" in said and said.count("on the front are") == 1
    assert text.count("<td>on the front</td>") == 3
    [chart] = re.findall(r'<section id="pareto">.*?</section>', text, re.S)
    assert chart.count('<circle class="front"') == 3 and "of 4 recipes" in chart and "stopped" not in chart
    corners = re.findall(r"[\d.]+,[\d.]+", re.findall(r'class="front" points="([^"]*)"', chart)[0])
    assert len(corners) == 5, "three points, a step between two"

    rows = [line.split(" | ") for line in (folder / "report.md").read_text(encoding="utf-8").splitlines()]
    assert {row[2]: row[1] for row in rows if len(row) == 7 and row[1] == "yes"} == dict.fromkeys("abd", "yes")
    board = ls.open_sweep("two").leaderboard
    assert list(board.arm[board.front]) == ["a", "b", "d"]
    assert "burn/score" in ls.open_sweep("two")._repr_html_()


def test_of_one_objective_no_front_is_told(tmp_path: Path) -> None:
    html, markdown = write_report(write_sweep(tmp_path / "m", SWEEPS["two arms"]))
    said = Read(html.read_text(encoding="utf-8")).text + markdown.read_text(encoding="utf-8")
    assert "on the front" not in said.lower() and "| front |" not in said and "Identity against overcooking" in said


@pytest.mark.parametrize("odd", [[1], 5, None, "x", {"weight": [1], "options": 3, "dollhouse": "zkw"}])
def test_a_recipe_with_odd_values_is_shown_all_the_same(
    home: Path, odd: object, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_sweep(home / "outputs" / "odd", [Cooked(arm="a"), Cooked(arm="b", overcook=0.3)])
    recipe = folder / "0000-a-s0" / "recipe.yaml"
    parts = ("sample", "dataset", "adapter", "base", "regularization", "train")
    recipe.write_text(json.dumps({**yaml.safe_load(recipe.read_text()), **dict.fromkeys(parts, odd)}))
    run = ls.open_sweep("odd").trials[0]
    assert "Done at step 160" in run._repr_html_() and "Done at step 160" in str(run)
    assert "Done at step 160" in ls.open_sweep("odd")._repr_html_()
    assert main(["report", "odd"]) == 0 and main(["status", "odd"]) == 0
    assert "Done at step 160" in (folder / "report.html").read_text(encoding="utf-8")
    sweep = read_sweep(folder)
    assert [trial_content(read_trial(path), sweep, ()).name for path in sweep.trials] == ["a", "b"]


def test_on_a_phone_the_answer_is_whole_however_long_names_are(tmp_path: Path) -> None:
    trials = [Cooked(arm=name * 12, overcook=0.9) for name in ("long_", "longer_")]
    html, _ = write_report(write_sweep(tmp_path / "m", [Cooked(arm="a"), *trials]))
    with browser(tmp_path / "browser") as chromium:
        tab = chromium.open(html.as_uri())
        tab.resize(400, 800, is_phone=True)
        paragraphs = "[...document.querySelectorAll('.answer p')]"
        assert "long_long_" in tab.evaluate(f"{paragraphs}.map((each) => each.textContent).join()")
        assert tab.evaluate(f"{paragraphs}.every((each) => each.scrollWidth <= each.clientWidth)")


def test_on_a_phone_no_number_of_a_leaderboard_of_two_objectives_covers_another(tmp_path: Path) -> None:
    trials = [Cooked(arm="a", identity=0.9, overcook=0.6), Cooked(arm="b")]
    goals = {"identity/score": "maximize", "burn/score": "minimize"}
    html, _ = write_report(write_sweep(tmp_path / "two", trials, objectives=goals))
    with browser(tmp_path / "browser") as chromium:
        tab = chromium.open(html.as_uri())
        tab.resize(400, 800, is_phone=True)
        cells = "[...document.querySelectorAll('.ranked tbody td.n')]"
        wide = tab.evaluate(f"{cells}.filter((cell) => cell.scrollWidth > cell.clientWidth).map((c) => c.textContent)")
        assert wide == [] and tab.evaluate(f"{cells}.length") == 10
        left = tab.evaluate(f"{cells}.map((cell) => cell.getBoundingClientRect().left)")
        assert min(left) > tab.evaluate("document.querySelector('.ranked .rank').getBoundingClientRect().right")
