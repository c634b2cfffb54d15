"""The verdict journal: verdicts are stored as they are reached, so that an interrupted scoring can be resumed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from sqlora.evaluation.metrics import Verdict
from sqlora.storage.atomic import writing
from sqlora.system.errors import UserError


def kept_beside(out: Path) -> Path:
    """The file of verdicts so far, beside the one that will have them all."""
    return out.with_name(out.name + ".partial.jsonl")


class VerdictJournal:
    """The verdicts of the rows reached so far, in order, beside the file that will have them all.

    `asked` is what decides them. The journal is removed when the work is done.
    """

    def __init__(self, out: Path, asked: object, resume: bool) -> None:
        """Raises UserError if there is nothing to resume with, or it answers another question."""
        self.path = kept_beside(out)
        self._key = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]
        self.reached: list[Verdict] = []
        if not resume:
            return
        lines = self.path.read_bytes().split(b"\n") if self.path.is_file() else []
        if not lines or lines[0].decode(errors="replace") != self._key:
            raise UserError(
                f"--resume: {self.path} has no verdicts of these rows under this rule; start without --resume"
            )
        for line in lines[1:]:
            try:
                self.reached.append(Verdict.from_dict(json.loads(line)))
            except (ValueError, TypeError, AttributeError):  # interrupted while it was written
                break

    def keep(self, verdicts: Iterable[Verdict]) -> Iterator[Verdict]:
        """The verdicts, each written down before it is handed on."""
        with writing(self.path), self.path.open("w", encoding="utf-8", errors="replace") as stream:
            stream.write(f"{self._key}\n")
            for verdict in self.reached:
                stream.write(json.dumps(asdict(verdict)) + "\n")
            for verdict in verdicts:
                stream.write(json.dumps(asdict(verdict)) + "\n")
                stream.flush()
                yield verdict

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
