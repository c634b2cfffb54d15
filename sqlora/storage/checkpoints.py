"""What makes an adapter's folder whole: sqlora.json, its fingerprint, written last, with the hash of every other file.

A folder in which it is missing or does not fit is not whole, and is never loaded. No torch is needed to tell.
"""

from __future__ import annotations

import hashlib
import json
import stat
from datetime import UTC, datetime
from pathlib import Path

from sqlora.storage.atomic import replace_file
from sqlora.system.errors import UserError

FINGERPRINT = "sqlora.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "checkpoint-"  # of the names of a run's checkpoints, as transformers has them
CHECKPOINT, FINISHED, INTERRUPTED = "checkpoint", "finished", "interrupted"
LONGEST = 64_000_000  # bytes of a JSON file that describes something; ours have some thousand


def seal(folder: Path, fingerprint: dict[str, object], status: str, metrics: dict[str, object]) -> dict[str, object]:
    """Writes the fingerprint that makes `folder` whole, and returns it. `status` is CHECKPOINT, FINISHED or
    INTERRUPTED.
    """
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
    remedy = "train again, or name another --lora-checkpoint"
    fingerprint = read_object(folder / FINGERPRINT, remedy)
    kinds = {"base_model": dict, "prompt": str, "tokenizer": str, "weights": str, "files": dict, "written": str}
    if any(type(fingerprint.get(key)) is not kind for key, kind in kinds.items()):
        raise UserError(f"{folder / FINGERPRINT} is damaged; {remedy}")
    return fingerprint


def read_object(file: Path, remedy: str) -> dict:
    """The JSON object in a file that may be a stranger's. Raises UserError, which ends with the remedy, if there is
    none in it,
    FileNotFoundError if there is no file."""
    try:
        check_regular(file)
        if file.stat().st_size > LONGEST:
            raise ValueError(f"it has more than {LONGEST:,} bytes")
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # the second: it is nested too deeply
        raise UserError(f"{file} is damaged, or no JSON ({error}); {remedy}") from None
    if not isinstance(found, dict):
        raise UserError(f"{file} is damaged: it holds a {type(found).__name__}, not an object; {remedy}")
    return found


def check_regular(file: Path) -> None:
    """Raises ValueError unless it is a file, or leads to one: a device or a pipe would be read for ever."""
    if not stat.S_ISREG(file.stat().st_mode):
        raise ValueError("it is no ordinary file")


def newest(run: Path) -> Path | None:
    """The checkpoint of the folder `run` with the most steps in which every file is as it was written; None if there is
    none.
    """
    for path in sorted(run.glob(PREFIX + "*"), key=step_of, reverse=True):
        try:
            files = read_fingerprint(path)["files"]
            if all(_is_own(path, name) and file_hash(path / name) == digest for name, digest in files.items()):
                return path
        except (OSError, UserError):
            continue
    return None


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was written; -1 for a folder of another name."""
    number = checkpoint.name.removeprefix(PREFIX)
    return int(number) if number.isdecimal() else -1


def _is_own(folder: Path, name: str) -> bool:
    """Whether a file that a fingerprint lists would stand in the folder itself, and is no link."""
    return name == Path(name).name and not (folder / name).is_symlink()


def file_hash(file: Path) -> str:
    """SHA-256 in hexadecimal digits. Raises OSError, for what is no ordinary file too."""
    try:
        check_regular(file)
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except ValueError as error:  # a name with a zero byte gives one, too
        raise OSError(f"{file}: {error}") from None
