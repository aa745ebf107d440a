"""Rating in a real browser, as a person does: keys, two tabs, a page that is closed, a server that is killed.

pytest -m slow tests/unit/results/rate/test_browser.py      (forty answers)
"""

from __future__ import annotations

import json
import math
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from chromium import Browser, Tab, browser
from sweep_folders import Cooked, write_sweep

from lorasweep.cli import main
from lorasweep.core.run_folder import ratings_file
from lorasweep.results.ratings import read_book

ARMS = {"gentle": 0.05, "warm": 0.3, "hot": 0.6, "charred": 0.95}
# How little of a picture is magenta, in which `write_sweep` burns: what a person sees who has no names.
SEEN = """[...document.querySelectorAll("#pair img")].map((image) => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 64, height: 64 }).getContext("2d");
    canvas.drawImage(image, 0, 0);
    const dots = canvas.getImageData(0, 0, 64, 64).data;
    let pink = 0;
    for (let at = 0; at < dots.length; at += 4) pink += dots[at] + dots[at + 2] - 2 * dots[at + 1];
    return -pink / 64 / 64 / 510;
})"""
READY = "!!asked && !busy"
SHOWN_AGAIN = """{  // where the server takes its time to say what other tabs answered
    const own = window.fetch;
    window.fetch = async (path, how) => {
        if (path === "asked") await new Promise((done) => setTimeout(done, 500));
        return own(path, how);
    };
    document.dispatchEvent(new Event("visibilitychange"));
}"""


@pytest.fixture
def sweep(home: Path) -> Path:
    return write_sweep(home / "outputs" / "mine", [Cooked(arm=arm, overcook=over) for arm, over in ARMS.items()])


@contextmanager
def served(*words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "lorasweep", "rate", *words, "--no-browser"]
    quiet = {name: value for name, value in os.environ.items() if name != "SSH_CONNECTION"}
    server = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=quiet)
    try:
        assert server.stderr is not None
        line = server.stderr.readline()
        found = re.search(r"http://\S+", line)
        assert found, line
        yield server, found[0]
    finally:
        server.kill()
        server.communicate()


def answer(tab: Tab, key: str) -> None:
    tab.wait(READY)
    before = tab.evaluate("asked.pair")
    tab.press(key)
    tab.wait(f"{READY} && asked.pair !== {json.dumps(before)}")


def book(sweep: Path) -> list[str]:
    return [each.answer for each in read_book(ratings_file(sweep, "me")).answers]


@pytest.fixture
def chromium(tmp_path: Path) -> Iterator[Browser]:
    with browser(tmp_path / "chromium") as found:
        yield found


def test_tabs_undo_a_killed_server_and_a_closed_page_lose_nothing(sweep: Path, chromium: Browser) -> None:
    with served("mine") as (server, url):
        one, two = chromium.open(url), chromium.open(url)
        one.wait(READY), two.wait(READY)
        assert one.evaluate("asked.pair") == two.evaluate("asked.pair")  # both tabs ask the same
        answer(one, "ArrowLeft")
        answer(two, "ArrowRight")  # the pair that the other tab has answered: not counted twice
        assert book(sweep) == ["left"] and "Not counted" in two.evaluate("said.textContent")
        assert one.evaluate("asked.pair") == two.evaluate("asked.pair")
        two.evaluate(SHOWN_AGAIN)
        answer(two, "ArrowUp")  # not lost though the page asks what is new
        answer(two, "u")
        assert book(sweep) == ["left"]
        answer(two, "ArrowDown")
        assert book(sweep) == ["left", "tie"]
        answer(one, "ArrowUp")  # late again
        two.call("Page.close")
        answer(one, "ArrowUp")
        assert book(sweep) == ["left", "tie", "both_bad"]
        pair = one.evaluate("asked.pair")
        server.kill()
        server.wait()
        one.press("ArrowLeft")
        one.wait("!busy && said.textContent.includes('does not answer')")
    with open(ratings_file(sweep, "me"), "a") as file:
        file.write('{"pair": "12')  # as a kill would tear it
    with served("mine") as (_, url):
        page = chromium.open(url)
        page.wait(READY)
        assert page.evaluate("asked.answered") == 3 and pair
        answer(page, "ArrowRight")
    assert book(sweep) == ["left", "tie", "both_bad", "right"]


def test_nothing_on_the_page_tells_whose_pictures_they_are(sweep: Path, chromium: Browser, tmp_path: Path) -> None:
    with served("mine") as (_, url):
        tab = chromium.open(url)
        tab.wait(READY)
        tab.resize(390, 844, is_phone=True)
        told = tab.evaluate("document.documentElement.outerHTML + JSON.stringify({...asked, left: '', right: ''})")
        assert not [name for name in (*ARMS, "step_", "0000-", "s0") if name in told]
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        assert min(tab.evaluate("buttons.map((button) => button.getBoundingClientRect().height)")) >= 44
        tab.evaluate("buttons[0].click()")
        tab.wait(f"{READY} && asked.answered === 1")
    assert book(sweep) == ["left"]


@pytest.mark.slow
def test_forty_answers_that_follow_a_preference_recover_its_order(
    sweep: Path, chromium: Browser, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(0)
    with served("mine", "--pairs", "40", "--json") as (server, url):
        tab = chromium.open(url)
        tab.wait(READY)
        while not tab.evaluate("asked.over ?? ''"):
            left, right = (12 * seen for seen in tab.evaluate(SEEN))
            weights = [math.exp(left), math.exp(right), 0.2 * math.exp((left + right) / 2), math.exp(-3)]
            answer(tab, chance.choices(["ArrowLeft", "ArrowRight", "ArrowDown", "ArrowUp"], weights)[0])
        printed, _ = server.communicate(timeout=60)  # it ends by itself
        assert server.returncode == 0
    [rated] = json.loads(printed)
    assert [each["item"] for each in rated["standings"]] == list(ARMS)
    assert rated["answers"] == 40 or rated["settled"]
    [utility] = [each for each in rated["agreements"] if each["metric"] == "overcook/utility"]
    assert utility["tau"] == 1.0 and utility["share"] > 0.7
    assert main(["rate", "mine", "--results"]) == 0
    assert "gentle" in capsys.readouterr().out
