"""What a command reads and what it will write, stated before any work: nothing is written over that SQLoRA did not
write.

A command calls `check` with both. Refused, in a line, is an output that is an input, that lies in an input folder, or
that holds something else than what will be written there; a folder of somebody else's; and two outputs that are one.
What is ours is known by its content, not by its name.
"""

from __future__ import annotations

import itertools
import json
import os
import stat
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatch
from pathlib import Path

from sqlora.storage.atomic import PARTIAL
from sqlora.storage.checkpoints import FINGERPRINT, PREFIX
from sqlora.storage.paths import entry_within, same
from sqlora.system.console import note
from sqlora.system.errors import UserError

METRICS, CURVE, PAGE, EVALUATION, EARLIER = (
    "metrics.jsonl",
    "loss.png",
    "before_after.html",
    "evaluation.json",
    "earlier",
)
LINT, ANSWERS_KEPT = ".lint", ".answers"
IGNORED = {LINT, ANSWERS_KEPT, "lost+found", ".DS_Store", ".gitignore"}  # bookkeeping, of ours or of the system
LONGEST_ROW = 1 << 28  # bytes
HEAD = 4096  # bytes
DEEPEST = 3  # folders below one another in which runs are looked for


@dataclass(frozen=True)
class FileKind:
    """What a file holds that SQLoRA writes: what a message calls it, and whether an existing file is such a one."""

    told: str
    fits: Callable[[Path], bool]


def _rows(told: str, needed: set[str], more: set[str]) -> FileKind:
    """JSON lines whose first object has the `needed` keys, and no others than `more`."""

    def fits(file: Path) -> bool:
        row = _first_row(file)
        return isinstance(row, dict) and needed <= row.keys() <= needed | more

    return FileKind(told, fits)


def _headed(told: str, start: str, word: str = "") -> FileKind:
    """Text that begins with `start` and has `word` near its beginning."""

    def fits(file: Path) -> bool:
        with file.open("rb") as stream:
            head = stream.read(HEAD).decode("utf-8", "replace")
        return head.startswith(start) and word in head

    return FileKind(told, fits)


ANSWERS = _rows("answers of generate.py to TEST_DATA", {"question", "context", "base", "adapter"}, {"answer"})
DATABASE_ANSWERS = _rows(
    "answers of generate.py on a DATABASE", {"question", "context", "sql"}, {"fault", "columns", "rows", "more"}
)
TRAINING_ROWS = _rows("rows of question, context and answer", {"question", "context", "answer"}, set())
DROPPED_ROWS = _rows("rows that --fix dropped", {"question", "context", "answer", "reason", "why"}, set())
LOGGED_STEPS = _rows(
    "the logged steps of a run",
    {"step"},
    {"loss", "eval_loss", "learning_rate", "rows_per_second", "peak_memory_bytes"},
)
VERDICTS = _headed("an evaluation of SQLoRA", '{"metrics"', '"exact_match"')
WEB_PAGE = _headed("a before/after page", "<!doctype html>", "<title>SQLoRA")
CARD = _headed("a model card of SQLoRA", "---", "SQLoRA")


@dataclass(frozen=True)
class File:
    """A file that will be written. `name` is what a message calls it, such as OUTPUT (--output)."""

    name: str
    path: Path
    kind: FileKind

    def writes(self, entry: str) -> bool:
        """Whether it is written to something of this name below it, or with "" to it itself."""
        return not entry

    def check(self) -> None:
        """Raises UserError if something else than `kind` is there."""
        _check_file(f"{self.name} is {str(self.path)!r}, which", "name another file", self.path, self.kind)

    def make(self) -> None:
        check_writable(Path(os.path.realpath(self.path)).parent, self.name)


@dataclass(frozen=True)
class Folder:
    """A folder in which `files` will be written, each a name and its kind, and folders whose names `patterns` match.

    One that is to be `new` is made as a whole, and may not be there before, unless it is empty.
    """

    name: str
    path: Path
    files: dict[str, FileKind | None] = field(default_factory=dict)
    patterns: tuple[str, ...] = ()
    new: bool = False

    def writes(self, entry: str) -> bool:
        """The same for a file's; whatever the case of the letters, since some systems ignore it."""
        return not entry or any(fnmatch(entry.lower(), name.lower()) for name in (*self.files, *self.patterns))

    def check(self) -> None:
        """Raises UserError if the folder is somebody else's, or if what will be written there cannot be."""
        where = f"{self.name} is {str(self.path)!r}"
        if self.new:
            if os.path.lexists(self.path) and (not self.path.is_dir() or any(self.path.iterdir())):
                raise UserError(f"{where}, and something is there; name a folder that is new, or empty this one")
            return
        if not self.path.is_dir():  # `make` tells what is wrong, if something is there
            return
        if (other := _not_ours(self.path)) is not None:
            raise UserError(
                f"{where}, and something is there that SQLoRA did not write, such as {other.name!r}; name a folder "
                f"that is new or empty"
            )
        for name, kind in self.files.items():
            _check_file(f"{where}, and {name} in it", "move it away", self.path / name, kind, may_be_link=False)
        for name in self.patterns:
            path = self.path / name
            if path.is_symlink() or (path.exists() and not path.is_dir()):
                raise UserError(f"{where}, and {name} in it is no folder of a run; move it away")

    def make(self) -> None:
        check_writable(Path(os.path.realpath(self.path)).parent if self.new else self.path, self.name)


def check_outputs_are_ours(reads: dict[str, Path | str], *outputs: File | Folder) -> None:
    """Raises UserError unless a command that reads and writes these would harm nothing; then makes the folders it
    writes to.

    `reads` are paths by the names that messages give them. What is not there, such as a model's id on the hub, is
    passed over.
    """
    for output in outputs:
        for name, path in reads.items():
            _check_apart(name, path, output)
        try:
            output.check()
        except OSError as error:
            raise UserError(
                f"{output.name} is {str(output.path)!r}, which cannot be looked at ({error.strerror}: "
                f"{error.filename}); name another"
            ) from None
    for one, other in itertools.combinations(outputs, 2):
        if _within(one, other) or _within(other, one):
            raise UserError(
                f"{one.name} is {str(one.path)!r} and {other.name} is {str(other.path)!r}, and one would be written "
                f"over the other; name two that are apart"
            )
    for output in outputs:
        output.make()


def _within(one: File | Folder, other: File | Folder) -> bool:
    entry = entry_within(one.path, other.path)
    return entry is not None and other.writes(entry)


def _check_apart(name: str, path: Path | str, output: File | Folder) -> None:
    """Raises UserError if the input would be written over, if the output is in it, or a folder that is read in the
    output.
    """
    where = f"{output.name} is {str(output.path)!r}"
    if os.path.isdir(path) and entry_within(output.path, path) is not None:
        raise UserError(f"{where}, which is {name}, or is in it, and that folder is only read; name another place")
    if isinstance(output, File):
        if same(output.path, path):
            raise UserError(f"{where}, which would write over {name}; name another file")
        return
    entry = entry_within(path, output.path) if os.path.lexists(path) else None
    if entry is not None and (output.writes(entry) or os.path.isdir(path)):
        raise UserError(f"{where}, and {name}, which is only read, is in it; name another folder")


def check_writable(folder: Path, name: str) -> None:
    """Makes `folder`, and raises UserError, naming the setting or flag `name`, unless a file can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"x")
    except OSError as error:
        otherwise = "since this is a file" if folder.is_file() else "or free some space"
        raise UserError(
            f"{name}: nothing can be written to {str(folder)!r} ({error.strerror}); choose another folder, {otherwise}"
        ) from None


def _check_file(what: str, remedy: str, path: Path, kind: FileKind | None, may_be_link: bool = True) -> None:
    """Raises UserError, from `what` to `remedy`, unless a file of the kind, an empty one or none is at `path`."""
    try:
        found = path.stat() if may_be_link else path.lstat()
    except (FileNotFoundError, NotADirectoryError):  # `make` tells of the latter
        return
    if stat.S_ISDIR(found.st_mode):
        raise UserError(f"{what} is a folder; name a file" if may_be_link else f"{what} is a folder; {remedy}")
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"{what} is a link or a device, no file; {remedy}")
    if not os.access(path, os.W_OK):
        raise UserError(f"{what} may not be written to; {remedy}")
    if kind and found.st_size and not kind.fits(path):
        raise UserError(f"{what} is there and holds something other than {kind.told}; {remedy}")


def _first_row(file: Path) -> object:
    """The object in the first line that is not blank; None if it is none."""
    with file.open("rb") as stream:
        if not stream.read(HEAD).lstrip().startswith(b"{"):  # perhaps gigabytes without a line
            return None
        stream.seek(0)
        line = next((line for line in iter(lambda: stream.readline(LONGEST_ROW), b"") if line.strip()), b"")
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _not_ours(folder: Path, depth: int = DEEPEST) -> Path | None:
    """The first entry that makes a folder somebody else's: it has no run of ours, and not only folders that have, and
    answers.
    """
    if _has_run(folder):
        return None
    for entry in sorted(folder.iterdir()):
        if entry.name in IGNORED or entry.name.startswith(PARTIAL):
            continue
        if entry.is_dir():
            ours = depth > 0 and (_is_merged(entry) or _not_ours(entry, depth - 1) is None)
        elif entry.is_file():
            ours = not entry.stat().st_size or any(
                kind.fits(entry) for kind in (ANSWERS, DATABASE_ANSWERS, VERDICTS, WEB_PAGE)
            )
        else:
            ours = entry.name.startswith(PREFIX) and entry.is_symlink()  # it leads nowhere
        if not ours:
            return entry
    return None


def _is_merged(folder: Path) -> bool:
    """Whether sqlora.merge made it. Nothing else may be written there, but runs may be beside it."""
    return (folder / "README.md").is_file() and CARD.fits(folder / "README.md")


def _has_run(folder: Path) -> bool:
    """Whether it has the fingerprint of a run or its logged steps, or what an earlier or a killed run left has."""
    places = (folder, *folder.glob(PARTIAL + "*"), *folder.glob(PREFIX + "*"), *folder.glob(EARLIER + "/*"))
    return any(
        (place / FINGERPRINT).is_file() or ((place / METRICS).is_file() and LOGGED_STEPS.fits(place / METRICS))
        for place in places
    )


def set_aside(folder: Path, left: list[Path], told: str) -> None:
    """Moves what is `left` in `folder` into a new folder below EARLIER there, and says so."""
    if not left:
        return
    # Of a link its own time, since it may lead nowhere; and no time that no calendar has.
    newest = min(time.time(), max(path.lstat().st_mtime for path in left))
    aside = _new_folder(folder / EARLIER / datetime.fromtimestamp(newest).strftime("%Y-%m-%d_%H-%M-%S"))
    for path in left:
        path.rename(aside / path.name)
    note(f"{told} in {folder} is in {aside} now")


def _new_folder(wanted: Path) -> Path:
    """Makes `wanted`, or, where something is there, as after a run was copied back from it, a folder beside it with a
    number.
    """
    wanted.parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(2):
        try:
            wanted.mkdir()
            return wanted
        except FileExistsError:
            wanted = wanted.with_name(f"{wanted.name.partition('+')[0]}+{number}")
