"""What makes an adapter's folder whole: sqlora.json, its fingerprint, written last, with the hash of every other file.

A folder in which it is missing or does not fit is not whole, and is never loaded. No torch is needed to tell.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

from sqlora.atomic import replace_file
from sqlora.errors import UserError

FINGERPRINT = "sqlora.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "checkpoint-"  # of the names of a run's checkpoints, as transformers has them
CHECKPOINT, FINISHED, INTERRUPTED = "checkpoint", "finished", "interrupted"


def seal(folder: Path, fingerprint: dict[str, object], status: str, metrics: dict[str, object]) -> dict[str, object]:
    """Writes the fingerprint that makes `folder` whole, and returns it. `status` is CHECKPOINT, FINISHED or INTERRUPTED."""
    hashes = {file.name: file_hash(file) for file in sorted(folder.iterdir()) if file.name != FINGERPRINT}
    sealed = fingerprint | {
        "status": status,
        "metrics": metrics,
        "weights": hashes[WEIGHTS],
        "files": hashes,
        "written": datetime.now(UTC).isoformat(),
    }
    text = json.dumps(sealed, indent=2) + "\n"
    replace_file(folder / FINGERPRINT, lambda partial: partial.write_text(text, encoding="utf-8"))
    return sealed


def is_whole(folder: Path) -> bool:
    """Whether `folder` holds an adapter that was written to its end."""
    try:
        return read_fingerprint(folder)["weights"] == file_hash(folder / WEIGHTS)
    except (OSError, UserError):
        return False


def read_fingerprint(folder: Path) -> dict:
    """The sqlora.json of an adapter. Raises UserError if it is not one of ours, FileNotFoundError if there is none."""
    try:
        fingerprint = json.loads((folder / FINGERPRINT).read_text(encoding="utf-8"))
    except ValueError:
        fingerprint = None
    kinds = {"base_model": dict, "prompt": str, "tokenizer": str, "weights": str, "files": dict, "written": str}
    if not isinstance(fingerprint, dict) or any(type(fingerprint.get(key)) is not kind for key, kind in kinds.items()):
        raise UserError(f"{folder / FINGERPRINT} is damaged; train again, or name another --lora-checkpoint")
    return fingerprint


def newest(run: Path) -> Path | None:
    """The checkpoint of the folder `run` with the most steps in which every file is as it was written; None if there is none."""
    for path in sorted(run.glob(PREFIX + "*"), key=step_of, reverse=True):
        try:
            files = read_fingerprint(path)["files"]
            if all(file_hash(path / name) == digest for name, digest in files.items()):
                return path
        except (OSError, UserError, KeyError, AttributeError):
            continue
    return None


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was written; -1 for a folder of another name."""
    number = checkpoint.name.removeprefix(PREFIX)
    return int(number) if number.isdecimal() else -1


def file_hash(file: Path) -> str:
    """SHA-256 in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
