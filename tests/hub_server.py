"""A small HTTP server that answers as the Hugging Face hub does, out of a local folder, and fails on demand.

root/models/<owner>/<name>/ and root/datasets/<owner>/<name>/ are repositories, each with one revision, "main". As on
the hub, large kinds of files (LFS) are known by their sha256 and come from another host, to which the first one
redirects. HF_ENDPOINT is read when huggingface_hub is imported, so a client of this server is a process of its own:

    with HubServer(root) as server:
        environment = os.environ | {"HF_ENDPOINT": server.url, "HF_HOME": fresh_folder, "HF_HUB_OFFLINE": "0"}
        subprocess.run([sys.executable, script], env=environment)
"""

import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, unquote

API = re.compile(
    r"/api/(?P<kind>models|datasets)/(?P<id>[^/]+/[^/]+)"
    r"(/(?P<verb>revision|tree|paths-info)/(?P<rev>[^/]+))?(/(?P<path>.*))?"
)
FILE = re.compile(r"(?P<stored>/lfs)?/(?P<kind>datasets/)?(?P<id>[^/]+/[^/]+)/resolve/(?P<rev>[^/]+)/(?P<path>.+)")
LFS = (".safetensors", ".bin", ".model", ".parquet")
API_FAULTS = "api"  # the name under which `faults` has those of the API


class Fault(NamedTuple):
    """How an answer goes wrong; `at` counts the bytes of its body that are sent before.

    drop: the connection is closed. reset: it is torn down. stall: nothing comes any more. truncate: the answer is
    whole, and shorter than the file. corrupt: a byte is another one. pad: there are bytes too many. error: status 503.
    page: status 200 and HTML, as from a network that wants a login first.
    """

    kind: str
    at: int = 0


class Request(NamedTuple):
    """What a client asked for; `range` is its Range header, or ""."""

    method: str
    path: str
    range: str


class HubServer:
    """Serves `root` on a free port of 127.0.0.1 from `start` to `stop`, or inside `with`.

    faults: file name, or API_FAULTS -> the faults of its next answers, one each; an endless iterator is allowed.
    delay: seconds before each answer's body.
    gated: ids of repositories whose files are refused.
    requests: every request so far, in order.
    """

    def __init__(self, root: Path | str):
        self.root = Path(root)
        self.faults: dict[str, Iterator[Fault]] = {}
        self.delay = 0.0
        self.stopped = threading.Event()
        self.gated: set[str] = set()
        self.requests: list[Request] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._http.daemon_threads = True
        self._http.hub = self
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def start(self) -> "HubServer":
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def stop(self) -> None:
        """From here on the hub is out of reach: connections are refused."""
        self.stopped.set()
        self._http.shutdown()
        self._http.server_close()

    __enter__ = start

    def __exit__(self, *_) -> None:
        self.stop()


class _Refusal(Exception):
    """(status, X-Error-Code): the answer that huggingface_hub turns into the exception of that name."""


class _Handler(BaseHTTPRequestHandler):
    # HTTP/1.0 closes each connection after its answer, so that `stop` leaves none open that would still be answered.
    protocol_version = "HTTP/1.0"

    def do_GET(self):
        hub = self.server.hub
        hub.requests.append(Request(self.command, self.path, self.headers.get("Range", "")))
        path, _, query = self.path.partition("?")
        try:
            if match := API.fullmatch(path):
                self._answer_api(match, parse_qs(query))
            elif match := FILE.fullmatch(path):
                self._answer_file(match)
            else:
                raise _Refusal(HTTPStatus.NOT_FOUND, "EntryNotFound")
        except _Refusal as refusal:
            status, code = refusal.args
            self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": code})

    do_HEAD = do_POST = do_GET

    def _open(self, match: re.Match) -> tuple[Path, list[Path], str]:
        """A repository's folder, its files, and its commit: a hash over their names and contents."""
        folder = self.server.hub.root / (match["kind"] or "models").rstrip("/") / match["id"]
        if not folder.is_dir():
            raise _Refusal(HTTPStatus.NOT_FOUND, "RepoNotFound")
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        listing = "".join(f"{path.relative_to(folder).as_posix()} {_blob_id(path)}\n" for path in files)
        commit = hashlib.sha1(listing.encode()).hexdigest()
        if match["rev"] is not None and unquote(match["rev"]) not in ("main", commit):
            raise _Refusal(HTTPStatus.NOT_FOUND, "RevisionNotFound")
        return folder, files, commit

    def _answer_api(self, match: re.Match, query: dict[str, list[str]]) -> None:
        folder, files, commit = self._open(match)
        path = unquote(match["path"] or "")
        if match["verb"] == "tree":
            recursive = query.get("recursive", [""])[0].lower() in ("true", "1")
            base = folder / path
            if not base.is_dir():
                raise _Refusal(HTTPStatus.NOT_FOUND, "EntryNotFound")
            found = base.rglob("*") if recursive else base.iterdir()
            answer = [_describe(entry, folder) for entry in sorted(found)]
        elif match["verb"] == "paths-info":
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            asked = [folder / name for name in form.get("paths", [])]
            answer = [_describe(entry, folder) for entry in asked if entry.exists()]
        elif path:
            raise _Refusal(HTTPStatus.NOT_FOUND, "EntryNotFound")
        else:
            siblings = [{"rfilename": file.relative_to(folder).as_posix()} for file in files]
            answer = {
                "id": match["id"],
                "sha": commit,
                "private": False,
                "gated": False,
                "disabled": False,
                "tags": [],
                "downloads": 0,
                "likes": 0,
                "siblings": siblings,
            }
        headers = {"Content-Type": "application/json", "X-Repo-Commit": commit}
        self._send(HTTPStatus.OK, json.dumps(answer).encode(), headers, self._fault(API_FAULTS))

    def _answer_file(self, match: re.Match) -> None:
        folder, files, commit = self._open(match)
        hub, file = self.server.hub, folder / unquote(match["path"])
        if match["id"] in hub.gated:
            raise _Refusal(HTTPStatus.FORBIDDEN, "GatedRepo")
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        if file not in files:
            self._send(HTTPStatus.NOT_FOUND, b"", headers | {"X-Error-Code": "EntryNotFound"})
            return
        body, status = file.read_bytes(), HTTPStatus.OK
        headers |= {"X-Linked-ETag": f'"{_etag(file)}"', "X-Linked-Size": str(len(body))}
        if file.suffix in LFS and not match["stored"]:
            storage = f"http://localhost:{self.server.server_port}/lfs"
            self._send(HTTPStatus.FOUND, b"", headers | {"Location": storage + self.path})
            return
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(wanted[1]), min(int(wanted[2] or len(body)), len(body) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(body)}"
            body, status = body[start : end + 1], HTTPStatus.PARTIAL_CONTENT
        self._send(status, body, headers, self._fault(file.name) if self.command == "GET" else None)

    def _fault(self, name: str) -> Fault | None:
        return next(self.server.hub.faults.get(name, iter(())), None)

    def _send(self, status: HTTPStatus, body: bytes, headers: dict[str, str], fault: Fault | None = None) -> None:
        """Sends an answer, or what `fault` makes of it."""
        kind, at = fault or Fault("")
        if kind == "error":
            status, body, headers = HTTPStatus.SERVICE_UNAVAILABLE, b"", {}
        elif kind == "page":
            status, body, headers = (
                HTTPStatus.OK,
                b"<html>Welcome! Please log in.</html>",
                {"Content-Type": "text/html"},
            )
        elif kind == "truncate":
            body = body[:at]
        elif kind == "pad":
            body += bytes(at)
        elif kind == "corrupt" and body:
            at %= len(body)
            body = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.server.hub.stopped.wait(self.server.hub.delay)
        self.wfile.write(body[:at] if kind in ("drop", "reset", "stall") else body)
        if kind == "stall":
            self.server.hub.stopped.wait()
        elif kind == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, *_):
        pass


def _blob_id(file: Path) -> str:
    """The git id of a file's content."""
    content = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _etag(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.suffix in LFS else _blob_id(file)


def _describe(entry: Path, folder: Path) -> dict:
    path = entry.relative_to(folder).as_posix()
    if entry.is_dir():
        return {"type": "directory", "path": path, "oid": hashlib.sha1(path.encode()).hexdigest(), "size": 0}
    size = entry.stat().st_size
    large = {"lfs": {"oid": _etag(entry), "size": size, "pointerSize": 130}} if entry.suffix in LFS else {}
    return {"type": "file", "path": path, "oid": _blob_id(entry), "size": size} | large
