"""The answer journal: answers are stored as they are written, so that an interrupted generate.py can be resumed."""

from __future__ import annotations

import hashlib
import json
import signal
import time
from pathlib import Path

from sqlora.generation.candidate import Candidate
from sqlora.model.base_models import BaseModel
from sqlora.model.device import failure_of_device
from sqlora.settings.settings import Settings
from sqlora.storage import outputs
from sqlora.storage.checkpoints import WEIGHTS, file_hash
from sqlora.system import console, distributed
from sqlora.system.errors import Interrupted, UserError

FOLDER = ".answers"  # in CHECKPOINT_DIR
# Settings that decide what is answered. Others, such as the batch size, may change when a run is resumed.
DECIDING = (
    "LOW_BIT",
    "DTYPE",
    "PROMPT_ORDER",
    "PROMPT_FORMAT",
    "MAX_NEW_TOKENS",
    "NUM_BEAMS",
    "NUM_CANDIDATES",
    "TEMPERATURE",
    "REPETITION_PENALTY",
    "CONSTRAIN",
    "SEED",
)


class Journal:
    """`written[variant, row]` are the candidates written so far, by base or adapter.

    As a context manager it turns Ctrl-C and the failure of a device into a message that says how to resume. In a
    distributed run each process writes its own file, and reads those of all. `seconds` is the time to the last answer.
    """

    def __init__(self, folder: Path, key: str, resume: bool = False):
        """Reads the answers under `key` in `folder` if `resume` is set, and otherwise moves them away.

        Raises UserError if there are none to resume with.
        """
        self.folder, self.key = folder, key
        self.written: dict[tuple[str, int], list[Candidate]] = {}
        self.seconds = 0.0
        rank, world = distributed.rank_and_world()
        files = sorted(folder.glob(f"{key}.*.jsonl")) if resume else []
        if resume and not files and distributed.is_main_process():
            raise UserError(
                f"RESUME (--resume) is set, and {folder} has no answers of this model to these questions with these "
                f"settings; start without --resume"
            )
        for file in files:
            self._read(file)
        self.before = len(self.written)
        folder.mkdir(parents=True, exist_ok=True)
        if not resume:
            self._set_aside(rank, world)
        self.file = (folder / f"{key}.{rank}.jsonl").open("a", encoding="utf-8")
        self.file.write("\n")  # the last line may be incomplete

    def _set_aside(self, rank: int, world: int) -> None:
        """Moves the answers of an earlier run away from this process's file, or from all files in a run of one
        process.
        """
        files = self.folder.glob(f"{self.key}.{'*' if world == 1 else rank}.jsonl")
        outputs.set_aside(
            self.folder, [file for file in files if file.read_bytes().strip()], "the answers of an earlier run"
        )

    def _read(self, file: Path) -> None:
        for line in file.read_bytes().split(b"\n"):  # not splitlines: a question or a query may hold U+2028
            try:
                variant, row, written = json.loads(line)
                self.written[variant, row] = [Candidate.of(candidate) for candidate in written]
            except (ValueError, TypeError):  # interrupted while it was written
                continue

    def __enter__(self) -> Journal:
        self.start = time.perf_counter()
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.file.close()
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(
                getattr(error, "number", signal.SIGINT), console.resume_hint(f"after {len(self.written):,} answers")
            ) from error
        if failure := failure_of_device(error):
            raise UserError(
                f"the device failed after {len(self.written):,} answers: {failure}; check the device, then continue "
                f"with --resume"
            ) from error

    def add(self, variant: str, row: int, written: list[Candidate]) -> None:
        self.written[variant, row] = written
        self.file.write(json.dumps([variant, row, written]) + "\n")
        self.file.flush()
        self.seconds = time.perf_counter() - self.start

    def pace(self) -> str:
        """The number of answers that this run wrote, and the speed."""
        written = len(self.written) - self.before
        return f"{written:,} in {self.seconds:.1f} s" + (
            f", {written / self.seconds:.1f} per second" if self.seconds else ""
        )

    def remove(self) -> None:
        """Removes the files when all answers are stored elsewhere. Those of other runs stay."""
        for file in self.folder.glob(f"{self.key}.*.jsonl"):
            file.unlink(missing_ok=True)


def open_journal(asked: list[tuple[str, ...]], base: BaseModel, adapter: Path | None, settings: Settings) -> Journal:
    """The journal of these questions, each with its context, to this model; its key changes with what is asked, who
    answers,
    and how."""
    weights = file_hash(adapter / WEIGHTS) if adapter else None
    parts = [asked, base.content, weights, [getattr(settings, name) for name in DECIDING]]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    return Journal(Path(settings.CHECKPOINT_DIR) / FOLDER, key, settings.RESUME)
