"""The fingerprint of an adapter's folder: sqlora.json, written last, with the hash of every other file.

A folder without it, or whose files do not match it, is not whole and is never loaded. Needs no torch.
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from sqlora.storage.atomic import replace_file
from sqlora.system.errors import UserError

FINGERPRINT = "sqlora.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "checkpoint-"  # of the names of checkpoints, as in transformers
CHECKPOINT, FINISHED, INTERRUPTED = "checkpoint", "finished", "interrupted"
LONGEST = 64_000_000  # bytes of a JSON description; ours have a few thousand


def seal(
    folder: Path, fingerprint: Mapping[str, object], status: str, metrics: Mapping[str, object]
) -> dict[str, object]:
    """Writes sqlora.json, which makes `folder` whole, and returns it. `status` is CHECKPOINT, FINISHED or
    INTERRUPTED.
    """
    hashes = {file.name: file_hash(file) for file in sorted(folder.iterdir()) if file.name != FINGERPRINT}
    sealed = dict(fingerprint) | {
        "status": status,
        "metrics": dict(metrics),
        "weights": hashes[WEIGHTS],
        "files": hashes,
        "written": datetime.now(UTC).isoformat(),
    }
    text = json.dumps(sealed, indent=2) + "\n"
    replace_file(folder / FINGERPRINT, lambda partial: partial.write_text(text, encoding="utf-8"))
    return sealed


def is_whole(folder: Path) -> bool:
    """Whether `folder` holds an adapter that was written completely."""
    try:
        return read_fingerprint(folder)["weights"] == file_hash(folder / WEIGHTS)
    except (OSError, UserError):
        return False


def read_fingerprint(folder: Path) -> dict:
    """An adapter's sqlora.json. Raises UserError if it is damaged, FileNotFoundError if there is none."""
    remedy = "train again, or name another --lora-checkpoint"
    fingerprint = read_object(folder / FINGERPRINT, remedy)
    kinds = {"base_model": dict, "prompt": str, "tokenizer": str, "weights": str, "files": dict, "written": str}
    if any(type(fingerprint.get(key)) is not kind for key, kind in kinds.items()):
        raise UserError(f"{folder / FINGERPRINT} is damaged; {remedy}")
    return fingerprint


def read_object(file: Path, remedy: str) -> dict:
    """The JSON object in a file of any origin.

    Raises UserError, ending with `remedy`, if the file holds none, and FileNotFoundError if there is no file.
    """
    try:
        check_regular(file)
        if file.stat().st_size > LONGEST:
            raise ValueError(f"it has more than {LONGEST:,} bytes")
        value = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # RecursionError: nested too deeply
        raise UserError(f"{file} is damaged, or not JSON ({error}); {remedy}") from None
    if not isinstance(value, dict):
        raise UserError(f"{file} is damaged: it holds a {type(value).__name__}, not an object; {remedy}")
    return value


def check_regular(file: Path) -> None:
    """Raises ValueError unless it is a regular file or a link to one: reading a device or a pipe may never end."""
    if not stat.S_ISREG(file.stat().st_mode):
        raise ValueError("it is not a regular file")


def newest(run: Path) -> Path | None:
    """The checkpoint in `run` with the most steps whose files all match their hashes; None if there is none."""
    for path in sorted(run.glob(PREFIX + "*"), key=step_of, reverse=True):
        try:
            files = read_fingerprint(path)["files"]
            if all(_is_own(path, name) and file_hash(path / name) == digest for name, digest in files.items()):
                return path
        except (OSError, UserError):
            continue
    return None


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was written, from its name; -1 for other folders."""
    number = checkpoint.name.removeprefix(PREFIX)
    return int(number) if number.isdecimal() else -1


def _is_own(folder: Path, name: str) -> bool:
    """Whether a file that a fingerprint lists is directly in the folder, and not a link."""
    return name == Path(name).name and not (folder / name).is_symlink()


def file_hash(file: Path) -> str:
    """SHA-256 in hexadecimal digits. Raises OSError, also for what is not a regular file."""
    try:
        check_regular(file)
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except ValueError as error:  # also for a name with a NUL
        raise OSError(f"{file}: {error}") from None
