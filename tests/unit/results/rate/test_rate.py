"""What is shown, what is kept, what is refused: without a browser."""

from __future__ import annotations

import base64
import http.client
import io
import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageStat, PngImagePlugin
from sweep_folders import Cooked, write_sweep

import lorasweep as ls
from lorasweep.cli import main
from lorasweep.core import files
from lorasweep.core.errors import InputError
from lorasweep.core.run_folder import ratings_file
from lorasweep.results.rate import server as serving
from lorasweep.results.rate.server import RatingServer
from lorasweep.results.rate.session import Session, contest
from lorasweep.results.ratings import read_book
from lorasweep.results.report.write import write_report
from lorasweep.results.tracking.content import trial_content
from lorasweep.results.tracking.reading import read_sweep, read_trial
from lorasweep.results.tracking.sweep_content import sweep_content

ARMS = {"good": 0.1, "middling": 0.4, "bad": 0.9}


@pytest.fixture
def sweep(home: Path) -> Path:
    return write_sweep(home / "outputs" / "mine", [Cooked(arm=arm, overcook=over) for arm, over in ARMS.items()])


def session_of(folder: Path, *, rater: str = "me", most: int = 60) -> Session:
    return Session(contest=contest(folder), rater=rater, most=most)


def pink(data: str) -> float:
    """How much of a picture is magenta, in which `write_sweep` burns."""
    picture = Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))).convert("RGB")
    red, green, blue = ImageStat.Stat(picture).sum
    return red + blue - 2 * green


def answer_all(session: Session, *, ruined: float = 1e9) -> list[dict[str, Any]]:
    """Prefer what is less pink; two that are pinker than `ruined` are both bad."""
    seen = []
    while "over" not in (asked := session.asked()):
        left, right = pink(asked["left"]), pink(asked["right"])
        both = "both_bad" if min(left, right) > ruined else ""
        session.take(asked["pair"], both or ("left" if left < right else "right"))
        seen.append(asked)
    return seen


def test_the_ranks_are_those_of_the_eye_and_the_score_agrees(
    sweep: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_all(session_of(sweep))
    assert main(["rate", "mine", "--results", "--json"]) == 0
    [rated] = json.loads(capsys.readouterr().out)
    assert [each["item"] for each in rated["standings"]] == list(ARMS)
    assert rated["settled"] and rated["answers"] < 60  # it was enough before
    agreement = {each["metric"]: each for each in rated["agreements"]}
    for metric in ("overcook/utility", "overcook/burn"):
        assert agreement[metric]["share"] == 1.0 and agreement[metric]["tau"] == 1.0
        assert 0.5 < agreement[metric]["share_low"] < 1.0
    assert ls.ratings("mine")[0].standings[0].item == "good"
    monkeypatch.delattr("tempfile.TemporaryFile")  # nothing is asked, so it may be a folder that only reads
    assert main(["rate", "mine", "--no-browser"]) == 0
    assert "good" in capsys.readouterr().out


def test_the_report_and_mlflow_have_them(sweep: Path) -> None:
    session = session_of(sweep, rater="anna")
    answer_all(session)
    html, markdown = (file.read_text(encoding="utf-8") for file in write_report(sweep))
    assert "By eye, blind" in html and "anna" in html and "By eye" not in write_text_of_unrated(sweep)
    assert "by the eye of anna" in markdown and "100%" in markdown
    read = read_sweep(sweep)
    trials = [read_trial(folder) for folder in read.trials]
    parent = [point for stream in sweep_content(read, trials).points.values() for point in stream]
    assert {p.key: p.value for p in parent}["rating/anna/agreement/overcook/utility"] == 1.0
    strength = []
    for trial in trials:
        [point] = trial_content(trial, read, []).points["strength by anna"]
        strength.append(point.value)
        assert point.key == "rating/anna/strength" and point.step == read_book(session.file).lines
    assert strength == sorted(strength, reverse=True)


def write_text_of_unrated(sweep: Path) -> str:
    html, _ = write_report(write_sweep(sweep.parent / "unrated", [Cooked(arm="a"), Cooked(arm="b")]))
    return html.read_text(encoding="utf-8")


def test_raters_keep_apart_and_see_other_pairs(sweep: Path) -> None:
    asked = [session_of(sweep, rater=rater).asked() for rater in ("a", "b", "c", "d", "e", "f")]
    assert len({(each["prompt"], each["left"], each["right"]) for each in asked}) > 1
    answer_all(session_of(sweep, rater="a", most=3))
    answer_all(session_of(sweep, rater="b", most=5))
    assert {rated.rater: rated.answers for rated in ls.ratings("mine")} == {"a": 3, "b": 5}


def test_every_prompt_comes_once_before_any_comes_again_and_sides_are_drawn(sweep: Path) -> None:
    session = session_of(sweep, most=40)
    seen = []
    for _ in range(40):
        asked = session.asked()
        seen.append(asked)
        session.take(asked["pair"], "tie")
    rounds = [seen[start : start + 4] for start in range(0, 40, 4)]
    assert all(len({each["prompt"] for each in part}) == 4 for part in rounds)
    book = read_book(session.file)
    sides = Counter(tuple(sorted((a.left.item, a.right.item))) == (a.left.item, a.right.item) for a in book.answers)
    assert min(sides.values()) > 10
    assert len({asked["pair"] for asked in seen}) == 40
    times = Counter((a.prompt, a.seed, frozenset((a.left.item, a.right.item))) for a in book.answers)
    assert len(times) == 4 * 3 and max(times.values()) - min(times.values()) == 1, "no pair again before the others"
    assert all(answer.left.step == answer.right.step == 320 for answer in book.answers)


def test_only_pictures_of_one_prompt_and_noise_make_a_pair(home: Path) -> None:
    folder = write_sweep(home / "outputs" / "mine", [Cooked(arm=arm) for arm in "ab"])
    for number, trigger in enumerate(("zkw", "ohwx")):
        run = next(folder.glob(f"000{number}-*"))
        files.write_json(run / "plan.json", {"trigger": trigger})
        index = files.read_json(run / "samples" / "step_000320" / "index.json")
        for row in index["images"]:
            row["prompt"] = row["prompt"].replace("zkw", trigger)
        if number:
            index["images"][3]["prompt"] = "a blue square"  # "a red circle" in the other arm
            index["images"][7]["prompt"] = index["images"][11]["prompt"] = "a blue square"
        files.write_json(run / "samples" / "step_000320" / "index.json", index)
    prompts = {question.prompt for question in contest(folder).questions}
    assert prompts == {"<trigger>, 1girl, red dress, beach", "<trigger>, 1girl, blue coat, snow",
                       "1girl, green hair, indoors"}  # fmt: skip


def test_the_steps_of_a_run_are_rated_in_its_own_folder(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = sweep / "0002-bad-s0"
    answer_all(session_of(run, most=60), ruined=1e6)
    assert main(["rate", "mine/2", "--results", "--json"]) == 0
    [rated] = json.loads(capsys.readouterr().out)
    assert rated["name"] == "mine/0002-bad-s0"
    assert [each["item"] for each in rated["standings"]][::3] == ["step 80", "step 320"]
    assert rated["standings"][-1]["ruined"] and not rated["standings"][0]["ruined"]
    assert "By eye, blind" in write_report(sweep)[0].read_text(encoding="utf-8")
    assert not ratings_file(sweep, "me").exists()


def test_the_bytes_tell_nothing_but_pixels(sweep: Path) -> None:
    for file in sweep.glob("*/samples/*/*.png"):
        told = PngImagePlugin.PngInfo()
        told.add_text("arm", "secret_arm")
        Image.open(file).save(file, pnginfo=told, icc_profile=b"secret_arm")
    asked = session_of(sweep).asked()
    for side in ("left", "right"):
        content = base64.b64decode(asked[side].partition(",")[2])
        assert b"secret_arm" not in content
        assert {chunk[0] for chunk in _chunks(content)} == {b"IHDR", b"IDAT", b"IEND"}


def _chunks(content: bytes) -> Iterator[tuple[bytes, int]]:
    place = 8
    while place < len(content):
        size = int.from_bytes(content[place : place + 4], "big")
        yield content[place + 4 : place + 8], size
        place += size + 12


def test_a_repeated_answer_is_done_and_an_undone_pair_is_asked_anew(sweep: Path) -> None:
    session, other = session_of(sweep), session_of(sweep)  # two servers of one person
    first = session.asked()
    assert first == other.asked()
    session.take(first["pair"], "left")
    other.take(first["pair"], "right")
    session.take(first["pair"], "undo")  # of a page that does not know yet that it was answered
    assert [answer.answer for answer in read_book(session.file).answers] == ["left"]
    session.take(session.asked()["pair"], "undo")
    again = other.asked()
    assert (again["left"], again["right"]) == (first["left"], first["right"]) and again["pair"] != first["pair"]
    other.take(first["pair"], "right")  # late, from before the undo
    assert read_book(session.file).answers == ()
    session.take(again["pair"], "undo")  # nothing to undo
    assert read_book(session.file).lines == 2


def test_torn_and_strange_lines_are_told_and_not_counted(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session = session_of(sweep)
    session.take(session.asked()["pair"], "left")
    with open(session.file, "a") as file:
        file.write('{"pair": "x", "answer": "best"}\n[1]\n{"pair": "y", "ans')
    session.take(session.asked()["pair"], "tie")
    assert main(["rate", "mine", "--results"]) == 0
    assert "3 lines of the answers are torn" in capsys.readouterr().out
    assert ls.ratings("mine")[0].answers == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mine", "--rater", "../x"], "--rater"),
        (["mine", "--rater", "nul"], "--rater"),
        (["nowhere"], "no such sweep"),
        (["mine", "--port", "PORT"], "is taken"),
        (["lonely"], "no two arms"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_served(
    sweep: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sweep(sweep.parent / "lonely", [Cooked(arm="only")])
    taken = RatingServer(session_of(sweep))
    assert main(["rate", *(word.replace("PORT", str(taken.server_port)) for word in words), "--no-browser"]) == 2
    with pytest.raises(InputError, match="rater  must"):
        ls.rate("mine", rater="../x", open_browser=False)
    taken.server_close()
    assert said in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------- the server


@pytest.fixture
def server(sweep: Path) -> Iterator[RatingServer]:
    found = RatingServer(session_of(sweep))
    threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


def ask(server: RatingServer, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def test_the_page_is_only_for_who_has_the_token_on_this_machine(server: RatingServer) -> None:
    inside = f"/{server.token}/"
    assert ask(server, "GET", inside)[0] == 200
    assert ask(server, "GET", inside, Host="localhost:9999")[0] == 200  # through ssh -L
    others = ["evil.example", "evil.example:80", f"127.0.0.1.evil.example:{server.server_port}", ""]
    assert [ask(server, "GET", inside, Host=name)[0] for name in others] == [404] * 4
    paths = ["/", "/asked", "//asked", f"/{server.token}", f"/{server.token[:-1]}x/", f"{inside}../../../etc/passwd",
             f"{inside}..%2f..%2fsweep.yaml", f"{inside}sweep.yaml", f"{inside}asked?x=1",
             f"{inside}%61sked"]  # fmt: skip
    assert [ask(server, "GET", path)[0] for path in paths] == [404] * len(paths)
    assert ask(server, "POST", "/answer", b"{}")[0] == 404
    assert [ask(server, method, inside)[0] for method in ("PUT", "DELETE", "OPTIONS")] == [501] * 3


def test_nothing_but_answers_is_taken_and_nothing_else_is_written(server: RatingServer, sweep: Path) -> None:
    before = {file for file in sweep.rglob("*") if file.is_file()}
    path, pair = f"/{server.token}/answer", json.loads(ask(server, "GET", f"/{server.token}/asked")[1])["pair"]
    junk = [b"", b"[]", b"null", b"{", b"\xff", b'"pair"', b'{"pair": 1, "answer": "left"}', b"[" * 900,
            *(json.dumps({"pair": pair, "answer": answer}).encode() for answer in ("best", ["left"], None)),
            json.dumps({"pair": pair}).encode()]  # fmt: skip
    assert [ask(server, "POST", path, body)[0] for body in junk] == [400] * len(junk)
    assert ask(server, "POST", path, b"{}", **{"Content-Length": "-1"})[0] == 411
    assert ask(server, "POST", path, b"{}", **{"Content-Length": "00000000010000000"})[0] == 413
    with pytest.raises((ConnectionError, AssertionError)):  # refused, or hung up on, before it was all sent
        assert ask(server, "POST", path, b"x" * 10_000_000)[0] != 413
    assert {file for file in sweep.rglob("*") if file.is_file()} == before
    assert ask(server, "POST", path, json.dumps({"pair": pair, "answer": "left"}).encode())[0] == 200
    new = {file for file in sweep.rglob("*") if file.is_file()} - before
    assert {file.parent.name for file in new} == {"ratings"} and ratings_file(sweep, "me") in new


def test_the_policy_allows_one_script_and_no_other_place(server: RatingServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.request("GET", f"/{server.token}/")
    answer = connection.getresponse()
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "connect-src 'self'" in policy and "frame-ancestors 'none'" in policy
    assert answer.headers["Referrer-Policy"] == "no-referrer" and answer.headers["Cache-Control"] == "no-store"
    assert server.url.startswith("http://127.0.0.1:") and len(server.token) >= 20


def test_over_ssh_it_says_the_tunnel_and_it_ends_by_itself(
    sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "1.2.3.4 5 6.7.8.9 22")
    monkeypatch.setattr(serving, "GRACE_S", 0.0)
    monkeypatch.setattr(serving.webbrowser, "open", lambda url: pytest.fail("nobody looks there"))
    session = session_of(sweep, most=1)
    answering = threading.Timer(0.5, lambda: session.take(session.asked()["pair"], "left"))
    answering.start()
    serving.serve(session)
    said = capsys.readouterr().err
    assert "ssh -L" in said and "127.0.0.1" in said
    assert [rated.answers for rated in ls.ratings(sweep)] == [1]


# ---------------------------------------------------------------------------------------------- calibration


def test_limits_are_placed_by_what_somebody_called_ruined(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = sweep / "0002-bad-s0"
    result = files.read_json(run / "metrics.json")
    for rung in result["rungs"]:
        rung["replicates"] = [{"burn/score": rung["metrics"]["burn/score"] + error} for error in (0, 0, 0.01, 0.01)]
    files.write_json(run / "metrics.json", result)
    command = ["calibrate", "--ratings", "mine/2", "--json"]
    assert main(command) == 2
    assert "me has called nothing ruined" in capsys.readouterr().err
    answer_all(session_of(run), ruined=1e6)
    assert main([*command, "seed=1"]) == 2
    capsys.readouterr()
    assert main(command) == 0
    made = json.loads(capsys.readouterr().out)
    burn = made["limits"]["burn"]
    values = {f"step {rung['step']}": rung["metrics"]["burn/score"] for rung in result["rungs"]}
    assert burn["null"] == max(values[item] for item in made["made"]["harmless"])
    assert burn["burned"] == min(values[item] for item in made["made"]["ruined"])
    assert burn["null"] < burn["limit"] < burn["burned"]
    assert Path(made["file"]).exists() and "memorisation" in made["unplaced"]


@pytest.mark.parametrize(
    ("words", "unread"),
    [
        (["--ratings", "mine/2", "--times", "20", "--seeds", "2"], ["--times", "--seeds"]),
        (["train.max_steps=4", "--rater", "anna"], ["--rater"]),
    ],
)
def test_what_a_way_to_calibrate_does_not_read_is_refused(
    home: Path, capsys: pytest.CaptureFixture[str], words: list[str], unread: list[str]
) -> None:
    assert main(["calibrate", *words]) == 2
    said = capsys.readouterr().err
    assert all(f"{word}  has no effect" in said for word in unread) and not list(home.iterdir())
