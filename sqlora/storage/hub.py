"""The Hugging Face hub: the list of a repository's files, and a hash that identifies files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from sqlora.storage import download

WAYS_OUT = "check the network, name a local folder, set HF_HOME to a cache that has it, or use --preset tiny"


def list_files(kind: str, repo: str) -> list[str] | None:
    """The files of a "model" or "dataset" repository, or None if the hub cannot be reached.

    Asks once, for ten seconds: huggingface_hub's own listing would retry for half a minute, or for ever.
    Raises RepositoryNotFoundError, GatedRepoError or HFValidationError of huggingface_hub.
    """
    from huggingface_hub import HfApi
    from huggingface_hub import utils as errors

    download.limit_waits()
    try:
        info: Any = HfApi().repo_info(repo, repo_type=kind, timeout=10)
        return [file.rfilename for file in info.siblings]
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        raise
    except (errors.OfflineModeIsEnabled, ValueError, KeyError, TypeError):  # the last three: the server is not a hub
        return None
    except download.network_errors():
        return None


def files_hash(files: list[Path], more: bytes) -> str:
    """Sixteen hexadecimal digits over `more` and each file's name, size, beginning and end."""
    digest = hashlib.sha256(more)
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name} {size}".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(65536))
            stream.seek(max(0, size - 65536))
            digest.update(stream.read())
    return digest.hexdigest()[:16]
