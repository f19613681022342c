# SPDX-License-Identifier: Apache-2.0
"""How do commands reach the API? By ``--server``, the environment, or a file of clouds; over HTTP.

Used by the commands that are about a server. Does I/O: reads the file and the token, and sends requests.
"""

import functools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote, urlencode

import click
import urllib3
import yaml

from cyborg_reconciler.agent.settings import is_loopback
from cyborg_reconciler.cli.common import Command
from cyborg_reconciler.errors import ReconcilerError, SettingsInvalidError
from cyborg_reconciler.secret_files import read_secret
from cyborg_reconciler.settings import PREFIX

#: Where a server runs that nobody said anything of.
LOCAL: Final = "http://127.0.0.1:6670"

#: What allows that a token travels without TLS.
PLAIN_HTTP: Final = f"{PREFIX}PLAIN_HTTP"

#: What every answer of the API has.
OURS: Final = "X-Openstack-Request-Id"

TIMEOUT: Final = urllib3.Timeout(connect=10, read=60)

#: The statuses from which on an answer is an error.
FIRST_ERROR: Final = 300

UNAUTHENTICATED: Final = 401


class ServerError(ReconcilerError):
    """The server cannot be reached, or refused: with which *status*; 0 when it was not reached."""

    status: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said: the document, and the tag of its version."""

    document: Any
    tag: str = ""


@dataclass(frozen=True, slots=True)
class Files:
    """What TLS takes, as files (PEM): the server's CA where it is not one of the system's; our certificate and its key.

    Attributes:
        key: None where it is in the certificate's file.
    """

    ca: str | None = None
    cert: str | None = None
    key: str | None = None


class Remote:
    """The API of one server."""

    def __init__(self, url: str, token: str = "", files: Files | None = None, *, plain_http: bool = False) -> None:
        self.url = url.rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise SettingsInvalidError(wanted="a URL of a server, http://HOST:PORT say", found=url)
        if token and not plain_http and not _is_private(self.url):
            raise SettingsInvalidError(
                wanted="a URL as https://HOST:PORT, since there is a token",
                found=f"{url}: it would travel in the clear",
                remedy=f"{PLAIN_HTTP}=true allows that, or plain_http: true in the file of clouds",
            )
        files = files or Files()
        for path in (files.ca, files.cert, files.key):
            if path is not None and not Path(path).is_file():
                raise SettingsInvalidError(wanted=f"the file {path}", found="it is not there")
        self._headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._pool = urllib3.PoolManager(
            ca_certs=files.ca, cert_file=files.cert, key_file=files.key, retries=False, timeout=TIMEOUT
        )

    def __call__(self, method: str, path: str, body: Any = None, *, tag: str = "") -> Answer:  # noqa: ANN401 - any JSON
        """Send a request, and return what is answered. Redirects are not followed.

        Raises:
            ServerError: it cannot be reached, or answers with an error; says what the server says.
        """
        headers = self._headers | ({"If-Match": tag} if tag else {})
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            headers |= {"Content-Type": "application/json"}
        try:
            answer = self._pool.request(method, self.url + path, body=data, headers=headers, redirect=False)
        except urllib3.exceptions.HTTPError as exc:
            raise ServerError(
                wanted=f"the server {self.url}",
                found=_reason(exc),
                remedy="start one with `cyborg-reconciler serve`, or name another with --server",
            ) from exc
        try:
            document = json.loads(answer.data) if answer.data else None
        except ValueError:
            document = None
        if answer.status >= FIRST_ERROR:
            raise _refused(method, path, answer.status, document)
        if OURS not in answer.headers:
            raise ServerError(
                wanted=f"the API at {self.url}", found="another server answers there", remedy="see --server and --cloud"
            )
        return Answer(document, answer.headers.get("ETag", ""))

    def pages(self, path: str, key: str, parameters: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield all that a list has, page after page."""
        given = {name: value for name, value in parameters.items() if value is not None}
        following: str | None = f"{path}?{urlencode(given)}" if given else path
        while following is not None:
            page = self("GET", following).document
            yield from page[key]
            links: Sequence[Mapping[str, str]] = page.get("links", ())
            following = next((link["href"] for link in links if link["rel"] == "next"), None)


def path_of(*names: str) -> str:
    """Return the path below which the *names* stand, each a part of its own, whatever is in it.

    Raises:
        UsageError: one would lead somewhere else.
    """
    for name in names:
        if name in {"", ".", ".."}:
            raise click.UsageError(f"{name!r} is the name of nothing")
    return "".join(f"/{quote(name, safe='')}" for name in names)


def _is_private(url: str) -> bool:
    """Return whether nobody on the way can read what is sent to *url*: it goes by TLS, or to this machine alone."""
    try:
        parts = urllib3.util.parse_url(url)  # as it will be when it is called
    except urllib3.exceptions.LocationParseError:
        return False
    return parts.scheme == "https" or is_loopback((parts.host or "").strip("[]"))


def _reason(exc: BaseException) -> str:
    """Return what went wrong on the way, without the names of the library's own objects."""
    cause = getattr(exc, "reason", None) or exc
    text = str(cause)
    return text.partition(">: ")[2] or text.partition("): ")[2] or text


def _refused(method: str, path: str, status: int, document: Any) -> ServerError:  # noqa: ANN401 - whatever was answered
    """Return the error for what the server refused, in its own words."""
    told = document if isinstance(document, dict) else {}
    wrong = [f"{one['path']} {one['message']}" for one in told.get("errors", ())]
    asked = f"{method} {path.partition('?')[0]}"
    detail = str(told.get("detail") or f"HTTP {status}").removeprefix(f"{unquote(asked)}: ")
    error = ServerError(wanted=asked, found="; ".join([detail, *wrong]), remedy=_remedy(status, told))
    error.status = status
    return error


def _remedy(status: int, told: Mapping[str, Any]) -> str:
    if status == UNAUTHENTICATED:
        return f"give a token: {PREFIX}TOKEN, or token_file in the file of clouds"
    return f"request id {told['request_id']}" if "request_id" in told else "is this the right server?"


def clouds_files(environ: Mapping[str, str]) -> list[Path]:
    """Return where a file of clouds may be, the one that counts first."""
    home = Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME") or "/") / ".config")
    named = environ.get(f"{PREFIX}CLOUDS")
    paths = [home / "cyborg-reconciler/clouds.yaml", Path("/etc/cyborg-reconciler/clouds.yaml")]
    return [Path(named)] if named else paths


def find_remote(server: str | None, cloud: str | None, environ: Mapping[str, str] | None = None) -> Remote:
    """Return the server that is meant: the one that is given, the environment's, the file's, or the local one.

    Raises:
        SettingsInvalidError: the file cannot be read, or has no such cloud; or a token would travel in the clear.
    """
    environ = os.environ if environ is None else environ
    plain_http = _is_true(environ.get(PLAIN_HTTP, ""))
    token = environ.get(f"{PREFIX}TOKEN", "")
    server = server or (None if cloud else environ.get(f"{PREFIX}SERVER"))
    if server:
        files = Files(*(environ.get(f"{PREFIX}{name}") for name in ("CA", "CERT", "KEY")))
        return Remote(server, token, files, plain_http=plain_http)
    cloud = cloud or environ.get(f"{PREFIX}CLOUD")
    path = next((one for one in clouds_files(environ) if one.is_file()), None)
    if path is None:
        if cloud:
            raise SettingsInvalidError(wanted=f"the cloud {cloud}", found="there is no clouds.yaml")
        return Remote(LOCAL, token)
    known = _read_clouds(path)
    name = cloud or (next(iter(known)) if len(known) == 1 else "")
    if name not in known:
        names = ", ".join(sorted(known))
        raise SettingsInvalidError(wanted=f"the cloud {name or '(none is named)'}", found=f"{path} has {names}")
    chosen = known[name]
    if "token_file" in chosen:
        token = read_secret(path.parent / chosen["token_file"], "the token")
    files = Files(**{name: str(path.parent / chosen[name]) for name in ("ca", "cert", "key") if name in chosen})
    plain_http = plain_http or _is_true(chosen.get("plain_http", ""))
    return Remote(chosen["server"], token, files, plain_http=plain_http)


def _is_true(text: str) -> bool:
    return text.lower() in {"true", "1"}


def _read_clouds(path: Path) -> Mapping[str, Mapping[str, str]]:
    """Return the clouds in the file at *path*."""
    form = "clouds: {NAME: {server: URL, token_file: PATH, ca: PATH, cert: PATH, key: PATH, plain_http: BOOLEAN}}"
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise SettingsInvalidError(wanted=f"a readable file {path}", found=str(exc)) from exc
    clouds = found.get("clouds") if isinstance(found, dict) else None
    well = isinstance(clouds, dict) and all(isinstance(one, dict) and "server" in one for one in clouds.values())
    if not clouds or not well:
        raise SettingsInvalidError(wanted=f"{path} to have {form}", found="something else")
    return {str(name): {str(key): str(value) for key, value in one.items()} for name, one in clouds.items()}


def with_server(command: Command) -> Command:
    """Add ``--server`` and ``--cloud``; the command gets `remote`."""

    @click.option("--server", metavar="URL", help=f"The API.  [default: {PREFIX}SERVER, clouds.yaml, or {LOCAL}]")
    @click.option("--cloud", metavar="NAME", help="The server of this name in clouds.yaml.")
    @functools.wraps(command)
    def wrapped(*args: Any, server: str | None, cloud: str | None, **kwargs: Any) -> Any:  # noqa: ANN401 - click's own
        return command(*args, remote=find_remote(server, cloud), **kwargs)

    return wrapped
