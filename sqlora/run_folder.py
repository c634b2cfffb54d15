"""The folders that a run writes to: can they be written, is there room, and what of an earlier run is in them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from sqlora.errors import UserError
from sqlora.settings import Settings, flag

METRICS = "metrics.jsonl"
CURVE = "loss.png"
PAGE = "before_after.html"
EVALUATION = "evaluation.json"
EARLIER = "earlier"


def check_outputs(settings: Settings) -> None:
    """Raises UserError unless both output folders can be made and written to."""
    for name in ("CHECKPOINT_DIR", "MODEL_PATH"):
        check_writable(Path(getattr(settings, name)), name)


def check_writable(folder: Path, name: str) -> None:
    """Makes `folder`, and raises UserError, naming the setting `name`, unless a file can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"x")
    except OSError as error:
        raise UserError(f"{name} ({flag(name)}): nothing can be written to {str(folder)!r} ({error.strerror}); choose another "
                        f"folder, or free some space") from None


def check_space(model, settings: Settings) -> None:
    """Raises UserError unless the disk has room for the checkpoints: float32 adapters with AdamW's two moments."""
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    need = trained * 4 * 3 * (settings.SAVE_TOTAL_LIMIT + 1)
    free = shutil.disk_usage(settings.CHECKPOINT_DIR).free
    if free < need:
        raise UserError(f"CHECKPOINT_DIR (--checkpoint-dir) is {settings.CHECKPOINT_DIR!r}, whose disk has {free / 1e6:.0f} MB "
                        f"free, and {settings.SAVE_TOTAL_LIMIT + 1} checkpoints need {need / 1e6:.0f} MB; free some space, or "
                        f"lower SAVE_TOTAL_LIMIT (--save-total-limit)")


def replace_file(target: Path, write: Callable[[Path], object]) -> None:
    """`target` as `write` writes it: whole, or as it was."""
    partial = target.with_name(target.name + ".partial")
    try:
        write(partial)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def set_earlier_run_aside(settings: Settings) -> Path | None:
    """Moves what an earlier run left in CHECKPOINT_DIR into a folder of its own there, and returns that folder.

    A new run would otherwise overwrite its metrics and rotate its checkpoints away.
    """
    folder = Path(settings.CHECKPOINT_DIR)
    made = (METRICS, CURVE, PAGE, EVALUATION)
    left = [*folder.glob("checkpoint-*"), *(folder / name for name in made if (folder / name).exists())]
    if not left:
        return None
    newest = max(path.stat().st_mtime for path in left)
    aside = folder / EARLIER / datetime.fromtimestamp(newest).strftime("%Y-%m-%d_%H-%M-%S")
    aside.mkdir(parents=True, exist_ok=True)
    for path in left:
        path.rename(aside / path.name)
    return aside
