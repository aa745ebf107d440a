"""The address of the MLflow store: what is wrong with it, and how it is shown, which is without its secrets.

    MLFLOW_TRACKING_URI, else sqlite:///<home>/mlruns/mlflow.db

Whatever may hold the address, or words of a library that may quote it, goes through `masked` before anybody
sees it or it is written down. Knows nothing about mlflow.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from lorasweep.core import paths
from lorasweep.core.errors import Problem

VARIABLE = "MLFLOW_TRACKING_URI"
MASK = "***"
_SECRET_VARIABLES = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "DATABRICKS_TOKEN")
_SHORTEST = 5  # characters; shorter secrets are masked in addresses only, or half of all words would go
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_LOCAL = "unset it for the store on this machine, or track nothing: tracking=none"

# user:password@ to the last @, since a password may hold a / or @ not encoded; a port is no password.
_USERINFO = r"(?!/)(?:(?P<user>[^{stop}/?#:@]*):(?!\d+(?:[/?#{stop}]|$))[^{stop}]*@|[^{stop}/?#]*@)"
_IN_AN_ADDRESS = re.compile(
    r"(?P<scheme>[A-Za-z][\w+.-]*:?//?|(?![A-Za-z][\w+.-]*:?/))" + _USERINFO.replace("{stop}", "\0")
)
# A path made of an address has one slash; a single letter before it is a drive. The last letters of a long word do.
_SCHEME = r"(?P<scheme>[A-Za-z][\w+.-]{0,40}://|[A-Za-z][\w+.-]{1,40}:/)"
_IN_A_TEXT = re.compile(_SCHEME + _USERINFO.replace("{stop}", r"\s'\"<>"))
_AS_OF_SSH = re.compile(r"(?<![\w.:-])(?P<scheme>)(?P<user>[\w.-]+):(?!\d+@)[^\s'\"<>/@]+@(?=[\w\[])")
_IN_A_QUERY = re.compile(
    r"(?i)([?&;][\w.-]*(?:pass|pwd|token|secret|key|credential|signature|auth|odbc_connect|dsn|conninfo)[\w.-]*=)[^&;#\s'\"<>]+"
)


def tracking_uri() -> str:
    """Return the store's address, secrets included."""
    return os.environ.get(VARIABLE) or f"sqlite:///{paths.mlruns() / 'mlflow.db'}"


def is_server(uri: str) -> bool:
    """Tell whether the address is that of a tracking server rather than of a database."""
    return uri.lower().startswith(("http://", "https://"))


def sqlite_file(uri: str) -> Path | None:
    """Return the file behind a `sqlite:///` address; None for any other store."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def without_user(uri: str) -> str:
    """Return the address without user and password: for a browser, which asks for them."""
    found = _IN_AN_ADDRESS.match(uri)
    return found["scheme"] + uri[found.end() :] if found else uri


def masked(text: str) -> str:
    """Return the text with `***` for passwords and tokens, in any address and wherever this store's stand."""
    uri = os.environ.get(VARIABLE, "")
    if found := _IN_AN_ADDRESS.match(uri):
        text = text.replace(uri, _masked_user(found) + uri[found.end() :])
    for form in (_IN_A_TEXT, _AS_OF_SSH):
        text = form.sub(_masked_user, text)
    text = _IN_A_QUERY.sub(rf"\1{MASK}", text)
    for secret in sorted(_secrets(uri), key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def _masked_user(found: re.Match[str]) -> str:
    """Keep a user's name; what stands alone may be a token."""
    user = found["user"]
    return f"{found['scheme']}{f'{user}:' if user else ''}{MASK}@"


def _secrets(uri: str) -> set[str]:
    """Return what must not be shown wherever it stands, as written and decoded."""
    found = {os.environ.get(name, "").strip() for name in _SECRET_VARIABLES}
    if userinfo := _IN_AN_ADDRESS.match(uri):
        user, colon, password = userinfo[0].removeprefix(userinfo["scheme"])[:-1].partition(":")
        found.add(password if colon else user if is_server(uri) else "")  # a database takes no tokens
    found |= {each[0].partition("=")[2] for each in _IN_A_QUERY.finditer(uri)}
    return {form for each in found for form in (each, unquote(each)) if len(form) >= _SHORTEST}


class _Masking:
    """A text stream that masks what is written to it; everything else is the stream's own."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(masked(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def masked_stderr() -> Iterator[None]:
    """Mask what anybody, libraries and tracebacks included, writes to `sys.stderr` within the block."""
    masking: Any = _Masking(sys.stderr)
    with contextlib.redirect_stderr(masking):
        yield


def address_problem(uri: str) -> Problem | None:
    """Tell what can be seen to be wrong with an address."""
    shown, (scheme, separator, rest) = masked(uri), uri.partition("://")
    if not os.environ.get(VARIABLE) and any(ord(letter) < 32 for letter in uri):
        rule = f"must be a folder without a line end or a tab in its name, got {str(paths.mlruns().parent)!r}"
        return Problem("LORASWEEP_HOME", rule, "another folder, or track nothing: tracking=none")
    if uri != uri.strip() or uri[:1] in "'\"" or any(ord(letter) < 32 for letter in uri):
        return _problem(f"must be an address alone, got {shown!r}", "no spaces, quotes or line ends")
    if uri.partition(":")[0] in ("databricks", "databricks-uc", "uc"):
        rule = f"must be a tracking server, got {shown}, a Databricks workspace"
        return _problem(f"{rule}, which lorasweep does not mirror to", f"http://HOST:PORT, or {_LOCAL}")
    folder = re.match(r"[/.~]|file:|\\\\|[A-Za-z]:[\\/]", uri) or Path(uri).is_dir()
    if scheme == "file" or (not separator and folder):
        rule = f"must not be a folder, which MLflow no longer writes to, got {shown}"
        return _problem(rule, f"a database: sqlite:///{paths.mlruns() / 'mlflow.db'}; or {_LOCAL}")
    if not separator and re.match(r"(\[[\da-f:]+\]|[\w.-]+)(:\d+)?(/|$)", uri):
        return _problem(
            f"must begin with http:// (or https://), got {shown}", re.sub(r"^(https?/+)?", "http://", shown)
        )
    if is_server(uri):
        return _server_problem(uri, shown)
    if scheme.partition("+")[0] not in _DATABASES or not separator:
        kinds = "http://HOST:PORT of a tracking server, or sqlite:///FILE, postgresql://, mysql:// of a database"
        return _problem(f"must be {kinds}, got {shown}", f"or {_LOCAL}")
    if scheme == "sqlite" and rest in ("", "/", "/:memory:"):
        return _problem(f"must name a file, got {shown}", f"sqlite:///{paths.mlruns() / 'mlflow.db'}")
    if scheme == "sqlite" and not rest.startswith("/"):
        return _problem(f"must have three slashes, got {shown}", f"sqlite:///{rest}")
    return None


def _server_problem(uri: str, shown: str) -> Problem | None:
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname, parts.port
    except ValueError:  # its words would quote what may be a piece of a password
        hint = "in a user or password write / as %2F, @ as %40, : as %3A"
        return _problem(f"must have a number up to 65535 for its port, got {shown}", hint)
    if parts.query or parts.fragment:
        return _problem(f"must end before any ? or #, got {shown}", re.split(r"/*[?#]", shown)[0])
    return None if host else _problem(f"must name a host, got {shown}", "http://HOST:PORT")


def _problem(message: str, hint: str) -> Problem:
    return Problem(VARIABLE, message, hint)
