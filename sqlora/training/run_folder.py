"""The folders that a run writes to: whether they can be written, have space, and hold an earlier run's files."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import filelock

from sqlora.settings.settings import ANSWERED, TRAINED_ON, Settings, setting_and_flag
from sqlora.storage import atomic, checkpoints, outputs
from sqlora.storage.outputs import CURVE, EARLIER, EVALUATION, METRICS, PAGE
from sqlora.system import distributed
from sqlora.system.console import print_facts
from sqlora.system.errors import UserError

LOCK = ".lock"
ADAPTER = {
    "adapter_config.json": None,
    checkpoints.WEIGHTS: None,
    "README.md": outputs.CARD,
    checkpoints.FINGERPRINT: None,
    LOCK: None,
}
RUN = {METRICS: outputs.LOGGED_STEPS, CURVE: None, PAGE: outputs.WEB_PAGE, EVALUATION: outputs.VERDICTS, LOCK: None}


def check_outputs(settings: Settings) -> None:
    """Raises UserError unless finetune.py may write to both its folders, and can; see outputs.py."""
    ((name, path),) = _named(settings, "MODEL_PATH")
    outputs.check_outputs_are_ours(
        reads(settings, TRAINED_ON), run_output(settings), outputs.Folder(name, path, ADAPTER)
    )


def check_answers(settings: Settings) -> None:
    """Raises UserError unless generate.py may and can write its files."""
    kinds = {
        "OUTPUT": outputs.DATABASE_ANSWERS if settings.DATABASE else outputs.ANSWERS,
        "SAVE_FEEDBACK": outputs.TRAINING_ROWS,
    }
    files = _named(settings, *(name for name in kinds if getattr(settings, name)))
    outputs.check_outputs_are_ours(
        reads(settings, ANSWERED),
        run_output(settings),
        *(outputs.File(name, path, kinds[name.partition(" ")[0]]) for name, path in files),
    )


def run_output(settings: Settings) -> outputs.Folder:
    """CHECKPOINT_DIR, with everything that any command writes there."""
    ((name, path),) = _named(settings, "CHECKPOINT_DIR")
    return outputs.Folder(name, path, RUN, (EARLIER, outputs.LINT, outputs.ANSWERS_KEPT, checkpoints.PREFIX + "*"))


def reads(settings: Settings, names: tuple[str, ...]) -> dict[str, Path]:
    """What the settings `names` read, by what messages call it, and folders that others read. Of an SQLite file its
    logs too.
    """
    given = {name: getattr(settings, name) for name in dict.fromkeys(TRAINED_ON + ANSWERED) if getattr(settings, name)}
    read = [name for name, path in given.items() if name != "DATABASE" and (name in names or os.path.isdir(path))]
    return dict(_named(settings, *read)) | (_database_files(settings.DATABASE) if settings.DATABASE else {})


def _database_files(database: str) -> dict[str, Path]:
    from sqlora.databases.database_url import sqlite_path  # imports SQLAlchemy

    name, file = setting_and_flag("DATABASE"), sqlite_path(database)
    logs = {f"the {more} file of {name}": Path(f"{file}{more}") for more in ("-wal", "-shm", "-journal")}
    return {name: Path(file)} | logs if file else {}


def _named(settings: Settings, *names: str) -> list[tuple[str, Path]]:
    return [(setting_and_flag(name), Path(getattr(settings, name))) for name in names]


@contextlib.contextmanager
def locked(settings: Settings) -> Iterator[None]:
    """Locks the two output folders against other runs. The locks end with the process, however it ends.

    Of several processes the main one, which alone writes, holds them. Raises UserError if another run holds one.
    """
    if not distributed.is_main_process():
        yield
        return
    with contextlib.ExitStack() as held:
        for name in ("CHECKPOINT_DIR", "MODEL_PATH"):
            folder = Path(getattr(settings, name))
            try:
                held.enter_context(filelock.FileLock(folder / LOCK, timeout=0))
            except filelock.Timeout:
                raise UserError(
                    f"{setting_and_flag(name)} is {str(folder)!r}, and another run is writing there; wait for its end, "
                    f"or choose another folder"
                ) from None
            atomic.remove_partial(folder)
        yield


def check_space(model, folder: str, limit: int) -> None:
    """Raises UserError unless the disk of CHECKPOINT_DIR has space for SAVE_TOTAL_LIMIT checkpoints and one more:
    float32 adapters with AdamW's two moments.
    """
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    need = trained * 4 * 3 * (limit + 1)
    free = shutil.disk_usage(folder).free
    if free < need:
        raise UserError(
            f"CHECKPOINT_DIR (--checkpoint-dir) is {folder!r}, whose disk has {free / 1e6:.0f} MB "
            f"free, and {limit + 1} checkpoints need {need / 1e6:.0f} MB; free some space, or "
            f"lower SAVE_TOTAL_LIMIT (--save-total-limit)"
        )
    largest = trained * 4 * 2  # bytes of the optimiser's file
    if (allowed := atomic.largest_file()) < largest:
        raise UserError(
            f"a checkpoint has a file of {largest / 1e6:.1f} MB, and no file may be larger than {allowed / 1e6:.1f} MB "
            f"here; raise the limit (ulimit -f)"
        )


def check_alike(fingerprint: dict) -> None:
    """Raises UserError unless the processes of all hosts have the same base, tokenizer, prompt, settings and rows."""
    compared = {
        "BASE_MODEL": fingerprint["base_model"]["content"],
        "the tokenizer": fingerprint["tokenizer"],
        "the prompt": fingerprint["prompt"],
        "DATA_PATH": fingerprint["data"]["hash"],
        "config.py or the flags": repr(sorted(fingerprint["settings"].items())),
    }
    for name, value in compared.items():
        digits = hashlib.sha256(value.encode()).hexdigest()[:15]  # as many as fit a number that is exchanged
        if len(set(distributed.all_gather_int(int(digits, 16)))) > 1:
            raise UserError(
                f"{name} is not the same for all processes; give every host the same files and the same command"
            )


def begin(run: str, resumes: bool, steps: int, fingerprint: dict) -> Path | None:
    """The checkpoint of CHECKPOINT_DIR to resume from; None for a new run, for which an earlier run's files are moved
    away.

    Raises UserError if the run has done all its `steps`, or if its base, tokenizer, prompt or data have changed.
    """
    folder = Path(run)
    if not resumes:
        made = [folder / name for name in (METRICS, CURVE, PAGE, EVALUATION)]
        left = [*folder.glob(checkpoints.PREFIX + "*"), *filter(os.path.lexists, made)]
        outputs.set_aside(folder, left, "the files of an earlier run")  # its metrics and checkpoints would be lost
        return None
    checkpoint = checkpoints.newest(folder)
    assert checkpoint is not None, "settings with RESUME are read from it"
    began = checkpoints.read_fingerprint(checkpoint)
    where = f"the run in {run!r}"
    for key, part, name in (("base_model", "content", "BASE_MODEL's files"), ("data", "hash", "DATA_PATH's rows")):
        if began[key][part] != fingerprint[key][part]:
            raise UserError(
                f"RESUME (--resume): {name} have changed since {where} began; restore them, or start a new run without "
                f"--resume"
            )
    for key in ("tokenizer", "prompt"):
        if began[key] != fingerprint[key]:
            raise UserError(
                f"RESUME (--resume): the {key} is not the one that {where} began with; use the same versions, or "
                f"start a new run without --resume"
            )
    step = checkpoints.step_of(checkpoint)
    if step >= steps:
        raise UserError(
            f"RESUME (--resume): {where} has done its {step} steps; raise MAX_STEPS (--max-steps) to train on"
        )
    print_facts({"resumed": f"after step {step}, from {checkpoint}"})
    strange = [path for path in folder.glob(checkpoints.PREFIX + "*") if not (path / checkpoints.FINGERPRINT).is_file()]
    outputs.set_aside(folder, strange, "what is not a checkpoint")  # it would be deleted, or written over
    return checkpoint
