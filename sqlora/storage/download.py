"""Downloads from the hub: files are complete and match the hub's hashes, and no request waits for ever."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import time
from pathlib import Path

from sqlora.storage.atomic import replace_file
from sqlora.system import console
from sqlora.system.errors import UserError

TRIES = 3
ABANDONED = 600  # seconds without a write after which a partial file counts as left by a killed process


def fetch(
    where: str,
    kind: str,
    repo: str,
    allow: list[str],
    ignore: list[str] | None = None,
    revision: str | None = None,
    offline: bool = False,
) -> Path:
    """Downloads the files of a "model" or "dataset" repository that match `allow` and not `ignore`; returns their
    folder.

    huggingface_hub resumes a broken download, but accepts any bytes of the right number. Here each file is checked once
    against the hub's hash; a wrong one is deleted and downloaded again. Raises UserError, beginning with `where`, if
    that does not help, and what huggingface_hub raises where the hub cannot be reached.
    """
    from huggingface_hub import snapshot_download

    for attempt in range(1, TRIES + 1):
        try:
            folder = Path(
                snapshot_download(
                    repo,
                    repo_type=kind,
                    revision=revision,
                    local_files_only=offline,
                    allow_patterns=allow,
                    ignore_patterns=ignore,
                )
            )
            damaged = _delete_damaged(kind, repo, folder, _present(folder, allow, ignore), offline)
            if not damaged:
                _delete_abandoned(folder)
                return folder
            fault = f"{', '.join(damaged)}: the content is not what the hub's hash says, and was deleted from the cache"
        except _connection_lost() as error:  # after which huggingface_hub does not resume
            fault = f"the connection was lost ({error})"
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            fault = f"the hub's answer cannot be read ({error})"
        except OSError as error:
            if "Consistency check" not in str(error):
                raise
            fault = str(error).partition(".\n")[0]
        if offline or attempt == TRIES:
            break
        console.note(f"{where}: {fault}; downloading again")
        time.sleep(attempt)
    raise UserError(
        f"{where}: {fault}; start again when the hub can be reached, over another network if this one changes the "
        f"files, or name a local folder"
    )


@functools.cache
def limit_waits() -> None:
    """Limits the wait of every request of huggingface_hub for its next byte to HF_HUB_DOWNLOAD_TIMEOUT, 10 seconds.

    Without this some of its requests wait for ever.
    """
    try:
        import httpx2
        from huggingface_hub import constants, set_client_factory
        from huggingface_hub.utils._http import default_client_factory
    except ImportError:  # a client of the time of bigdl-llm
        return

    def limit(request: httpx2.Request) -> None:
        most, waits = constants.HF_HUB_DOWNLOAD_TIMEOUT, request.extensions.get("timeout", {})
        kinds = ("connect", "read", "write", "pool")
        request.extensions["timeout"] = {kind: min(waits.get(kind) or most, most) for kind in kinds}

    def make_client() -> httpx2.Client:
        client = default_client_factory()
        client.event_hooks["request"].append(limit)
        return client

    set_client_factory(make_client)


def network_errors() -> tuple[type[Exception], ...]:
    """The errors of the hub's client when the hub cannot or may not be reached."""
    try:
        import httpx2
    except ImportError:
        import requests

        return ConnectionError, requests.RequestException
    return ConnectionError, httpx2.HTTPError, httpx2.InvalidURL


def _connection_lost() -> type[Exception]:
    try:
        import httpx2
    except ImportError:
        import requests

        return requests.exceptions.ChunkedEncodingError
    return httpx2.ReadError


def _present(folder: Path, allow: list[str], ignore: list[str] | None) -> list[str]:
    from huggingface_hub.utils import filter_repo_objects

    names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    return list(filter_repo_objects(names, allow_patterns=allow, ignore_patterns=ignore))


def _delete_damaged(kind: str, repo: str, folder: Path, names: list[str], offline: bool) -> list[str]:
    """Deletes the files whose hash is not the hub's and returns their names; remembers the others by size and time."""
    from huggingface_hub import constants

    record = Path(
        constants.HF_ASSETS_CACHE, "sqlora", "checked", f"{kind}s--{repo.replace('/', '--')}", f"{folder.name}.json"
    )
    try:
        known = dict(json.loads(record.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # missing or damaged
        known = {}
    stamps = {name: [stat.st_size, stat.st_mtime_ns] for name in names for stat in [(folder / name).stat()]}
    unchecked = [name for name in names if known.get(name) != stamps[name]]
    if not unchecked:
        return []
    hashes = _hub_hashes(kind, repo, folder, unchecked, offline)
    with console.progress_bar() as bar:
        damaged = [
            name
            for name in bar.track(hashes, description="checking the files")
            if _file_hash(folder / name, hashes[name]) != hashes[name]
        ]
    for name in damaged:
        content = (folder / name).resolve()
        (folder / name).unlink()
        content.unlink(missing_ok=True)
    known |= {name: stamps[name] for name in hashes if name not in damaged}
    if os.access(constants.HF_HOME, os.W_OK):  # somebody else's cache is checked each time
        record.parent.mkdir(parents=True, exist_ok=True)
        replace_file(record, lambda partial: partial.write_text(json.dumps(known), encoding="utf-8"))
    return damaged


def _hub_hashes(kind: str, repo: str, folder: Path, names: list[str], offline: bool) -> dict[str, str]:
    """The hub's hash of each file: a SHA-256 of 64 digits or a git id of 40; offline only for files whose link has
    it.
    """
    from huggingface_hub import HfApi

    # A file of the cache is a link to its content, whose name is the hash.
    linked = {name: Path(os.readlink(folder / name)).name for name in names if (folder / name).is_symlink()}
    hashes = {name: hash for name, hash in linked.items() if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", hash)}
    others = [name for name in names if name not in linked]
    # where there are no links, as on most Windows machines
    if others and not offline and hasattr(HfApi, "get_paths_info"):
        from huggingface_hub.hf_api import RepoFolder

        for file in HfApi().get_paths_info(repo, others, revision=folder.name, repo_type=kind):
            if not isinstance(file, RepoFolder):
                hashes[file.path] = file.lfs.sha256 if file.lfs else file.blob_id
    return hashes


def _file_hash(file: Path, like: str) -> str:
    git_header = b"blob %d\0" % file.stat().st_size
    digest = hashlib.sha256() if len(like) == 64 else hashlib.sha1(git_header, usedforsecurity=False)
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: digest).hexdigest()


def _delete_abandoned(folder: Path) -> None:
    """Parts of files that a killed process left in the cache: huggingface_hub neither resumes nor deletes
    them.
    """
    for part in (folder.parents[1] / "blobs").glob("*.incomplete"):
        if time.time() - part.stat().st_mtime > ABANDONED:
            part.unlink(missing_ok=True)
