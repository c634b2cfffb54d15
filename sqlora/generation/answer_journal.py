"""Answers kept on the disk as they are written, so that generate.py, cut off, goes on with those that are missing."""

from __future__ import annotations

import hashlib
import json
import signal
import time
from pathlib import Path

from sqlora.generation.self_consistency import Candidate
from sqlora.model.base_models import BaseModel
from sqlora.settings.settings import Settings
from sqlora.storage import outputs
from sqlora.storage.checkpoints import WEIGHTS, file_hash
from sqlora.system import console, distributed
from sqlora.system.errors import Interrupted, UserError

FOLDER = ".answers"  # in CHECKPOINT_DIR
# Settings that say what is answered. Others, such as the size of a batch, may change where a run goes on.
DECIDING = (
    "LOW_BIT",
    "DTYPE",
    "PROMPT_ORDER",
    "MAX_NEW_TOKENS",
    "NUM_BEAMS",
    "NUM_CANDIDATES",
    "TEMPERATURE",
    "REPETITION_PENALTY",
    "SEED",
)


class Journal:
    """`found` has the candidates of each asker, base or adapter, to each row. Within it an interrupt tells how to go
    on.

    Each of several processes writes a file of its own, and reads those of all. `seconds` is the time to the last
    answer.
    """

    def __init__(self, folder: Path, key: str, resume: bool = False):
        """Takes up what is in `folder` under `key` if `resume` asks for it, and else sets it aside.

        Raises UserError if there is nothing to take up.
        """
        self.folder, self.key = folder, key
        self.found: dict[tuple[str, int], list[Candidate]] = {}
        self.seconds = 0.0
        rank, world = distributed.rank_and_world()
        files = sorted(folder.glob(f"{key}.*.jsonl")) if resume else []
        if resume and not files and distributed.is_main_process():
            raise UserError(
                f"RESUME (--resume) is set, and {folder} has no answers of this model to these questions with these "
                f"settings; begin without --resume"
            )
        for file in files:
            self._read(file)
        self.before = len(self.found)
        folder.mkdir(parents=True, exist_ok=True)
        if not resume:
            self._set_aside(rank, world)
        self.file = (folder / f"{key}.{rank}.jsonl").open("a", encoding="utf-8")
        self.file.write("\n")  # the last line may be half written

    def _set_aside(self, rank: int, world: int) -> None:
        """Keeps what an earlier run wrote to this process's file; a process that is alone has the files of all."""
        files = self.folder.glob(f"{self.key}.{'*' if world == 1 else rank}.jsonl")
        outputs.set_aside(
            self.folder, [file for file in files if file.read_bytes().strip()], "answers that an earlier run kept"
        )

    def _read(self, file: Path) -> None:
        for line in file.read_bytes().split(b"\n"):  # not splitlines: a question or a query may hold U+2028
            try:
                asker, row, written = json.loads(line)
                self.found[asker, row] = [Candidate(sql, weight) for sql, weight in written]
            except (ValueError, TypeError):  # cut off while it was written
                continue

    def __enter__(self) -> Journal:
        self.start = time.perf_counter()
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.file.close()
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(
                getattr(error, "number", signal.SIGINT), console.resume_hint(f"after {len(self.found):,} answers")
            ) from error

    def add(self, asker: str, row: int, written: list[Candidate]) -> None:
        self.found[asker, row] = written
        self.file.write(json.dumps([asker, row, written]) + "\n")
        self.file.flush()
        self.seconds = time.perf_counter() - self.start

    def pace(self) -> str:
        """How many answers this run wrote, and how fast."""
        written = len(self.found) - self.before
        return f"{written:,} in {self.seconds:.1f} s" + (
            f", {written / self.seconds:.1f} a second" if self.seconds else ""
        )

    def remove(self) -> None:
        """All is answered, and kept elsewhere. What other runs keep stays."""
        for file in self.folder.glob(f"{self.key}.*.jsonl"):
            file.unlink(missing_ok=True)


def open_journal(asked: list[tuple[str, str]], base: BaseModel, adapter: Path | None, settings: Settings) -> Journal:
    """The journal of these questions, each with its context, to this model; its key changes with what is asked, who
    answers,
    and how."""
    weights = file_hash(adapter / WEIGHTS) if adapter else None
    parts = [asked, base.content, weights, [getattr(settings, name) for name in DECIDING]]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    return Journal(Path(settings.CHECKPOINT_DIR) / FOLDER, key, settings.RESUME)
