"""Where a command writes: `~` is the home folder, and what others wrote is not replaced."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sweep_folders import Cooked, write_sweep
from tiny_training import FEW_PICTURES

from lorasweep.cli import main

CHEAP = ["adapter.dim=4", "train.max_steps=4"]


@pytest.fixture
def me(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder, and a current folder beside it."""
    for name in ("me", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "me"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "me"


def kohya(folder: Path) -> None:
    (folder / "config.toml").write_text('network_dim = 4\noutput_name = "x"\n', encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "made"),
    [
        (["plan", *CHEAP, "--png=~/rates.png"], "rates.png"),
        (["dollhouse", "draw", "--count=1", "--out=~/doll.png"], "doll.png"),
        (["dollhouse", "dataset", "--images=2", "--out=~/dolls"], "dolls"),
        (["import", "~/config.toml", "-o", "~/mine.yaml"], "mine.yaml"),
    ],
)
def test_a_tilde_is_the_home_folder(me: Path, words: list[str], made: str) -> None:
    kohya(me)

    assert main(words) == 0

    assert (me / made).exists()
    assert not Path("~").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["plan", "~nobody_of_that_name/x.yaml"],
        ["sweep", "~nobody_of_that_name/x.yaml"],
        ["report", "~nobody_of_that_name/x"],
        ["plan", "dataset.path=~nobody_of_that_name/x"],
    ],
)
def test_the_home_of_nobody_is_told(me: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "`~nobody_of_that_name` has no home folder here" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["plan", *CHEAP, "--png=theirs"],
        ["dollhouse", "draw", "--count=1", "--out=theirs"],
        ["import", "~/config.toml", "-o", "theirs"],
        ["calibrate", *CHEAP, "--out=theirs"],
    ],
)
def test_a_file_that_somebody_else_wrote_is_not_replaced(
    me: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    kohya(me)
    theirs = Path("theirs")
    theirs.write_text("two nights of work", encoding="utf-8")

    assert main(words) == 2

    assert theirs.read_text(encoding="utf-8") == "two nights of work"
    assert "theirs is there already" in capsys.readouterr().err


def test_a_command_replaces_what_it_wrote_before(me: Path) -> None:
    kohya(me)
    for words in (
        ["plan", *CHEAP, "--png=rates.png"],
        ["dollhouse", "draw", "--count=1", "--out=doll.png"],
        ["import", "~/config.toml", "-o", "mine.yaml"],
    ):
        assert (main(words), main(words)) == (0, 0)


def test_an_import_follows_the_config_until_the_recipe_is_changed_by_hand(
    me: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kohya(me)
    config, recipe = me / "config.toml", Path("mine.yaml")
    words = ["import", "~/config.toml", "-o", "mine.yaml"]
    assert main(words) == 0
    config.write_text("network_dim = 4\nseed = 7\n", encoding="utf-8")
    assert main(words) == 0 and "seed: 7" in recipe.read_text(encoding="utf-8")
    changed = recipe.read_text(encoding="utf-8").replace("seed: 7", "seed: 8")
    recipe.write_text(changed, encoding="utf-8")
    assert main(words) == 2 and "was changed since" in capsys.readouterr().err
    assert recipe.read_text(encoding="utf-8") == changed


@pytest.mark.parametrize(
    "words",
    [
        ["plan", *CHEAP, "--png=file/x.png"],
        ["dollhouse", "draw", "--count=1", "--out=file/x.png"],
        ["dollhouse", "dataset", "--images=2", "--out=file/x"],
        ["dollhouse", "dataset", "--images=2", "--out=file"],
        ["import", "~/config.toml", "-o", "file/x.yaml"],
        ["calibrate", *CHEAP, "--out=file/x.json"],
        ["report", "train", "-o", "file/x"],
        ["report", "train", "-o", "file"],
        ["audit", "dolls", "--html=file/x.html"],
        ["caption", "dolls", "tagger=dollhouse", "--out=file/x"],
    ],
)
def test_a_place_that_cannot_be_written_to_is_refused_before_any_work(
    me: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    kohya(me)
    Path("file").write_text("not a folder", encoding="utf-8")
    Path("outputs/train/0").mkdir(parents=True)
    Path("outputs/train/0/status.json").write_text("{}", encoding="utf-8")

    assert main(words) == 2

    told = capsys.readouterr()
    assert "results cannot be written here" in told.err and "choose another place with --" in told.err
    assert "File exists" not in told.err and ("is a file, not a folder" in told.err or "Not a directory" in told.err)
    assert "trial" not in told.out and "images" not in told.err


def test_new_captions_that_cannot_be_kept_are_not_made(me: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("there").mkdir()
    assert main(["caption", "there", "tagger=dollhouse", "--out=there"]) == 2
    assert "there is there already" in capsys.readouterr().err


def test_a_full_disk_is_told_beforehand_and_afterwards_by_name(
    me: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("tempfile.TemporaryFile", full)
        assert main(["plan", *CHEAP, "--png=rates.png"]) == 2
    assert "results cannot be written here: there is no room left" in capsys.readouterr().err
    kohya(me)
    monkeypatch.setattr("os.fsync", full)
    assert main(["import", "~/config.toml", "-o", "mine.yaml"]) == 1
    assert "mine.yaml cannot be written or read: No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [["plan", *CHEAP, "--png="], ["dollhouse", "draw", "--out= "], ["export", "train/0", "--out="]],
)
def test_an_empty_name_is_no_place(me: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert "must name a file or folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["plan", *CHEAP, "--png=rates.svg"], ["dollhouse", "draw", "--count=1", "--out=rates.svg"]]
)
def test_a_picture_is_a_png(me: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "must end in .png, got rates.svg  (e.g. rates.png)" in capsys.readouterr().err


@pytest.fixture
def file_limit() -> Iterator[Callable[[int], None]]:
    """Set what `ulimit -f` sets, in bytes; as it was afterwards."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_limit_on_the_size_of_a_file_is_told_before_any_work(
    me: Path, capsys: pytest.CaptureFixture[str], file_limit: Callable[[int], None]
) -> None:
    file_limit(4096)
    code = main(["train", *CHEAP, "dataset.dollhouse.images=6", "tracking=none"])
    file_limit(10**9)
    assert code == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "cannot be written here: there is no room left (File too large)" in told
    assert "raise the limit on the size of a file (`ulimit -f`) and run the same command" in told
    assert not list(Path("outputs").rglob("status.json"))


def test_a_limit_that_is_met_while_training_stops_it_and_loses_nothing(
    home: Path, on_tiny_sd: list[str], capsys: pytest.CaptureFixture[str], file_limit: Callable[[int], None]
) -> None:
    few = ["dataset.dollhouse.images=6", "train.max_steps=4", "train.rungs=2", "sample.steps=2", "sample.seeds=[0]"]
    large = ["adapter.dim=64", "adapter.targets=full", "train.device=cpu", "tracking=none", "metrics=[norms]"]
    words = ["train", *on_tiny_sd, *FEW_PICTURES, *few, *large]
    file_limit(2**18)
    code = main(words)
    file_limit(10**9)
    assert code == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "stopped early: there is no room left" in told and "Raise the limit on the size of a file" in told
    assert main(words) == 0


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (["report", "mine"], "outputs/mine"),
        (["rate", "mine", "--no-browser"], "outputs/mine"),
        (["calibrate", *CHEAP, "optimizer.lr=1e-3"], "calibrations"),
        (["caption", "dolls", "tagger=dollhouse", "--write"], "dolls"),
        (["train", *CHEAP, "tracking=none"], "outputs/train"),
    ],
)
def test_a_folder_of_somebody_else_is_refused_before_any_work(
    me: Path,
    words: list[str],
    place: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_sweep(Path("outputs/mine"), [Cooked(arm="a"), Cooked(arm="b")])
    assert main(["dollhouse", "dataset", "--images=6", "--out=dolls"]) == 0
    there, asked = sorted(Path().rglob("*")), []

    def theirs(**how: Path) -> object:
        asked.append(how["dir"])
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("tempfile.TemporaryFile", theirs)
        assert main(words) == 2
        told = capsys.readouterr()
        assert "results cannot be written here: Permission denied" in told.err
        assert str(asked[0].absolute()).startswith(str(Path(place).absolute()))
        made = {path for path in Path().rglob("*") if path.is_file()} - {*there}
        assert {path.parts[0] for path in made} <= {"cache"}, "nothing but what is kept to be quicker"
        assert main(["status", "mine"]) == main(["status"]) == main(["plan", *CHEAP]) == 0, "what reads still reads"


def test_a_folder_that_was_removed_under_the_shell_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LORASWEEP_HOME", raising=False)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for words in (["status"], ["plan", "quickstart"], ["train"], ["-m", "seed=1,2"]):
        assert main(words) == 2
        assert "the folder where you type was removed" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["report", "mine"], ["rate", "mine", "--results"]])
def test_a_folder_in_a_files_place_is_named(me: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    write_sweep(Path("outputs/mine"), [Cooked(arm="a"), Cooked(arm="b")])
    Path("outputs/mine/ratings/me.jsonl").mkdir(parents=True)
    assert main(words) == 1
    assert "ratings/me.jsonl cannot be written or read: Is a directory" in capsys.readouterr().err
