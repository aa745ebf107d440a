"""What is told of a store's address, and that its secrets are told to nobody."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tracking_server import free_port

from lorasweep.api.checks import State, machine
from lorasweep.cli import main
from lorasweep.core.errors import InputError
from lorasweep.core.records import TrackingOptions
from lorasweep.results.tracking.address import address_problem, masked, without_user
from lorasweep.results.tracking.process import Mirror
from lorasweep.results.tracking.store import StoreUnavailable, open_store

SECRET = "pw0pw1pw2"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        (f"http://alice:{SECRET}@host:5000", "http://alice:***@host:5000"),
        (f"HTTPS://alice:{SECRET}@host/ml", "HTTPS://alice:***@host/ml"),
        (f"https://{SECRET}@host/ml", "https://***@host/ml"),
        (f"https://:{SECRET}@host/ml", "https://***@host/ml"),
        (f"https://alice:p%40{SECRET}%2Fw@host", "https://alice:***@host"),
        (f"https://alice:a@b{SECRET}@host", "https://alice:***@host"),
        (f"https://alice:a/{SECRET}#?@host", "https://alice:***@host"),
        (f"https://alice:a {SECRET}'\"@host", "https://alice:***@host"),
        (f"https://host/ml?access_token={SECRET}&x=1", "https://host/ml?access_token=***&x=1"),
        (f"postgresql+psycopg2://u:{SECRET}@db:5432/x", "postgresql+psycopg2://u:***@db:5432/x"),
        (f"mysql://db/x?user=u&password={SECRET}", "mysql://db/x?user=u&password=***"),
        (f"mssql+pyodbc:///?odbc_connect=PWD%3D{SECRET}", "mssql+pyodbc:///?odbc_connect=***"),
        (f"postgresql://?dsn=host%3Ddb%20password%3D{SECRET}", "postgresql://?dsn=***"),
        (f"databricks://profile:{SECRET}@workspace", "databricks://profile:***@workspace"),
        (f"alice:{SECRET}@host:5000", "alice:***@host:5000"),  # its http:// forgotten
        (f"http:/alice:{SECRET}@host:5000", "http:/alice:***@host:5000"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("127.0.0.1:5000", "127.0.0.1:5000"),
    ],
)
def test_an_address_is_shown_without_its_secrets(uri: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert masked(uri) == shown
    assert masked(f"request to {uri} failed") == f"request to {shown} failed"
    assert SECRET not in str(address_problem(uri))
    assert "@" not in without_user(uri) or "@" in shown.replace("***@", "")


def test_a_database_that_refuses_is_tried_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow tries ten times, over a hundred seconds; what drivers say is masked."""
    from mlflow.store.db import utils

    def refuse(uri: str) -> None:
        tries.append(uri)
        raise OSError(f"cannot connect with {uri}: Connection refused")

    tries: list[str] = []
    monkeypatch.setattr(utils, "create_sqlalchemy_engine", refuse)
    monkeypatch.setattr(utils, "MAX_RETRY_COUNT", utils.MAX_RETRY_COUNT)  # put back afterwards
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql://u:{SECRET}@127.0.0.1:9/db")
    with pytest.raises(StoreUnavailable, match="nobody listens there") as raised:
        open_store("lorasweep")
    assert len(tries) == 1 and SECRET not in str(raised.value)


def test_a_password_is_masked_without_its_address_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://alice:{SECRET}%2F@host")
    assert masked(f"no login with {SECRET}%2F or {SECRET}/") == "no login with *** or ***"


def test_a_user_of_a_database_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://lorasweep@127.0.0.1:5432/x")
    assert masked("rebuild it with lorasweep sync") == "rebuild it with lorasweep sync"


def test_a_long_word_is_shown_at_once_and_no_scheme_is_too_long() -> None:
    assert masked("y" * 10**6) == "y" * 10**6  # as a name out of a file's header: it took hours
    assert masked(f"{'y' * 99}://user:{SECRET}@host") == f"{'y' * 99}://user:***@host"


def test_secrets_of_the_environment_are_masked_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.setenv(name, f"{SECRET}\n")
        assert masked(f"invalid header 'Bearer {SECRET}\\n'") == "invalid header 'Bearer ***\\n'"
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("127.0.0.1:5000", "must begin with http://"),
        ("localhost:5000", "(http://localhost:5000)"),
        ("mlflow.example.org/ml", "(http://mlflow.example.org/ml)"),
        ("[::1]:5000", "must begin with http://"),
        ("http//host:5000", "(http://host:5000)"),
        ("databricks", "Databricks workspace"),
        ("databricks://profile", "Databricks workspace"),
        ("/srv/mlruns", "must not be a folder"),
        ("./mlruns", "must not be a folder"),
        ("file:///srv/mlruns", "must not be a folder"),
        ("C:\\mlruns", "must not be a folder"),
        ("postgres://db/x", "postgresql://, mysql:// of a database"),
        ("htp://host", "http://HOST:PORT of a tracking server"),
        ("sqlite://mlflow.db", "(sqlite:///mlflow.db)"),
        ("http://", "must name a host"),
        ("d:/mlruns", "must not be a folder"),
        ("\\\\server\\share", "must not be a folder"),
        ("sqlite:///", "must name a file"),
        ("sqlite:///:memory:", "must name a file"),
        ("http://host:port", "must have a number up to 65535 for its port"),
        ("http://host:99999", "must have a number up to 65535 for its port"),
        ("http://host:5000/#/experiments/1?x=y", "(http://host:5000)"),
        ("http://host/ml?user=me", "(http://host/ml)"),
        ("http://host:5000\r", "no spaces, quotes or line ends"),
        ('"http://host:5000"', "no spaces, quotes or line ends"),
    ],
)
def test_an_address_that_is_none_is_refused_with_what_is_missing(
    uri: str, words: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    for command in ("sync", "ui"):
        assert main([command]) == 2
        said = capsys.readouterr()
        assert words in said.err and said.out == ""
    with pytest.raises(InputError, match=re.escape(words)):
        Mirror(home / "outputs" / "s", TrackingOptions())
    Mirror(home / "outputs" / "s", TrackingOptions(name="none"))


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_an_address_that_is_none_is_refused_before_any_work(
    command: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "htp://host")
    words = ["quickstart"] if command == "sweep" else []
    assert main([command, *words, "train.max_steps=2"]) == 2
    said = capsys.readouterr()
    assert "MLFLOW_TRACKING_URI" in said.err and "tracking=none" in said.err
    assert not (home / "outputs").exists()


def test_a_folder_that_no_address_can_name_is_what_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LORASWEEP_HOME", str(tmp_path / "my\nhome"))
    assert main(["train", "train=debug"]) == 2
    told = capsys.readouterr().err
    assert "LORASWEEP_HOME  must be a folder without a line end" in told and "MLFLOW_TRACKING_URI" not in told
    assert not (tmp_path / "my\nhome" / "outputs").exists()


def test_a_password_that_was_given_in_the_wrong_place_is_not_said(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for word in (f"tracking=http://alice:{SECRET}@host", f"tracking.uri=http://alice:{SECRET}@host"):
        assert main(["plan", word]) == 2
        assert SECRET not in "".join(capsys.readouterr())


@pytest.fixture
def answering() -> Iterator[Any]:
    """answering(code, body): the address, with a password, of a server that answers everything so."""
    servers = []

    def serve(code: int, body: str) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(code)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            do_POST = do_PUT = do_PATCH = do_GET

            def log_message(self, *words: Any) -> None:
                """Say nothing."""

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://alice:{SECRET}@127.0.0.1:{servers[-1].server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("code", "body", "words"),
    [
        (401, "", "set MLFLOW_TRACKING_USERNAME"),
        (403, "", "refuses (403)"),
        (404, "<html>", "is a path missing"),
        (500, f"<html>{SECRET}", "fails inside"),
        (200, f"<html>Sign in, {SECRET}</html>", "no MLflow server"),
        (200, '{"another": "service"}', "no MLflow server"),
    ],
)
def test_a_server_that_answers_otherwise_is_explained_and_its_password_stays_unsaid(
    code: int, body: str, words: str, answering: Any, make_sweep: Any, fakes: Any, home: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    make_sweep(arms=fakes.ARMS[:1])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", answering(code, body))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    assert main(["sync"]) == 1
    said = capsys.readouterr()
    assert words in said.out and "http://alice:***@127.0.0.1" in said.out
    check = machine.mlflow_store()
    assert check.state is State.WARN and "alice:***@" in check.found and words in check.found  # as a sweep would say
    everything = said.out + said.err + str(check)
    assert SECRET not in everything and "Traceback" not in everything
    assert holders(home) == []


def holders(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


def test_the_mirror_beside_a_sweep_neither_says_nor_writes_the_password(
    make_sweep: Any, fakes: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = make_sweep(arms=fakes.ARMS[:1])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://alice:{SECRET}@127.0.0.1:{free_port()}")
    mirror = Mirror(sweep.folder, TrackingOptions())
    mirror.start()
    assert mirror._child is not None and not asked_with_secret(mirror._child.pid)
    report = mirror.finish(60.0)
    assert not report.ok and SECRET not in report.message and "alice:***@" in report.message
    log = (sweep.folder / "mirror.log").read_text(encoding="utf-8")
    assert "alice:***@" in log and holders(home) == []


def asked_with_secret(pid: int) -> bool:
    """Whether a process's arguments, which everybody may read, hold the secret."""
    words = subprocess.run(["ps", "-ww", "-o", "args=", "-p", str(pid)], capture_output=True, check=False).stdout
    return SECRET.encode() in words


def test_a_traceback_in_the_mirror_is_masked(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import os, logging\nfrom lorasweep.results.tracking.address import masked_stderr\n"
        "with masked_stderr():\n"
        "    try:\n        raise ValueError(os.environ['MLFLOW_TRACKING_URI'])\n"
        "    except ValueError:\n        logging.getLogger('x').exception('broken')\n"
        "    import traceback\n    traceback.print_stack()\n"
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://alice:{SECRET}@host")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "ValueError: http://alice:***@host" in done.stderr and SECRET not in done.stderr


@pytest.mark.slow
def test_the_ui_hands_its_database_on_by_the_environment(store_home: Path) -> None:
    """A database that is not there: the server says so, with its address and without its password."""
    ui = subprocess.Popen(
        [sys.executable, "-m", "lorasweep", "ui", "--port", str(free_port())],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env={**os.environ, "MLFLOW_TRACKING_URI": f"postgresql://alice:{SECRET}@127.0.0.1:9/x?connect_timeout=1"},
    )  # fmt: skip
    try:
        seen = set()
        for _ in range(40):
            listed = subprocess.run(["ps", "-eww", "-o", "args="], capture_output=True, text=True, check=False)
            seen |= {line for line in listed.stdout.splitlines() if SECRET in line}
            if ui.poll() is not None:
                break
            time.sleep(0.25)
        assert not seen
    finally:
        ui.terminate()
        said, _ = ui.communicate(timeout=60)
    assert SECRET not in said and "MLflow" in said


@pytest.mark.parametrize(
    "words",
    [
        ["launcher=ssh", "launcher.hosts=['me:S3cretPw@gpu1']"],
        ["launcher=ssh", "launcher.hosts=['ssh://me:S3cretPw@gpu1']"],
        ["launcher=ray", "launcher.address=ray://me:S3cretPw@head:10001"],
        ["dataset.path=s3://AKIA:S3cretPw@bucket/images"],
        ["dataset.path=me:S3cretPw@host:/images"],
        ["base=stable_diffusion", "base.path=https://me:S3cretPw@example.org/a.safetensors"],
        ["base=stable_diffusion", "base.path='https://example.org/a.safetensors?token=S3cretPw'"],
        ["tracking.uri=http://me:S3cretPw@example.org"],
        ["tracking.experiment='http://me:S3cretPw@example.org'"],
        ["https://me:S3cretPw@example.org/sweep.yaml"],
    ],
)
def test_a_secret_in_any_word_of_the_command_line_is_not_shown(
    home: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    for more in ([], ["--json"]):
        assert main(["plan", *words, *more]) == 2
        told = capsys.readouterr()
        assert "S3cretPw" not in told.err + told.out and told.err


@pytest.mark.parametrize("text", ["C:/Users/me@home/a.png", "a:1@2x.png", "see lorasweep:4 and me@example.org"])
def test_what_is_no_secret_stays(text: str) -> None:
    assert masked(text) == text
