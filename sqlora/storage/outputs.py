"""The check, before any work, that a command writes over nothing but SQLoRA's own files.

A command calls `check_outputs_are_ours` with its inputs and outputs. Refused with one line are an output that is an
input, that is in an input folder, or that holds something other than what will be written there; a folder with other
files; and two outputs that overlap. Our files are recognised by their content, not by their names.
"""

from __future__ import annotations

import itertools
import json
import os
import stat
import tempfile
import time
from collections.abc import Callable, Mapping
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
IGNORED = {LINT, ANSWERS_KEPT, "lost+found", ".DS_Store", ".gitignore"}  # housekeeping, ours or the system's
LONGEST_ROW = 1 << 28  # bytes
HEAD = 4096  # bytes
DEEPEST = 3  # levels of folders that are searched for runs


@dataclass(frozen=True)
class FileKind:
    """A kind of file that SQLoRA writes: how messages name it, and whether an existing file is of this kind."""

    description: str
    fits: Callable[[Path], bool]


def _rows(description: str, needed: set[str], more: set[str]) -> FileKind:
    """JSON lines whose first object has the `needed` keys, and no others but `more`."""

    def fits(file: Path) -> bool:
        row = _first_row(file)
        return isinstance(row, dict) and needed <= row.keys() <= needed | more

    return FileKind(description, fits)


def _headed(description: str, start: str, word: str = "") -> FileKind:
    """Text that begins with `start` and has `word` near its beginning."""

    def fits(file: Path) -> bool:
        return (head := _head(file)).startswith(start) and word in head

    return FileKind(description, fits)


def _head(file: Path) -> str:
    with file.open("rb") as stream:
        return stream.read(HEAD).decode("utf-8", "replace")


ANSWERS = _rows(
    "answers of generate.py to TEST_DATA",
    {"question", "context", "base", "adapter"},
    {"answer", "db_id", "evidence", "decoding"},
)
DATABASE_ANSWERS = _rows(
    "answers of generate.py on a DATABASE",
    {"question", "context", "sql"},
    {"decoding", "fault", "columns", "rows", "more"},
)
TRAINING_ROWS = _rows(
    "rows of question, context and answer", {"question", "context", "answer"}, {"evidence", "values", "db_id"}
)
DROPPED_ROWS = _rows(
    "rows that --fix dropped", {"question", "context", "answer", "reason", "why"}, {"evidence", "values", "db_id"}
)
LOGGED_STEPS = _rows(
    "the logged steps of a run",
    {"step"},
    {"loss", "eval_loss", "eval_execution_match", "learning_rate", "rows_per_second", "peak_memory_bytes"},
)
VERDICTS = _headed("an evaluation of SQLoRA", '{"metrics"', '"exact_match"')
KEPT_VERDICTS = FileKind("verdicts of an interrupted scoring", lambda file: _head(file)[16:17] in ("", "\n"))
SQL_LINES = FileKind("a query in each line", lambda file: _head(file).lstrip().lower().startswith(("select", "with")))
BIRD_PREDICTIONS = _headed("predictions as BIRD has them", "{", "----- bird -----")
WEB_PAGE = _headed("a before/after page", "<!doctype html>", "<title>SQLoRA")
CARD = _headed("a model card of SQLoRA", "---", "SQLoRA")


@dataclass(frozen=True)
class File:
    """A file that will be written. `name` is how messages call it, such as OUTPUT (--output)."""

    name: str
    path: Path
    kind: FileKind

    def writes(self, entry: str) -> bool:
        """Whether something is written to the entry of this name below it, or with "" to it itself."""
        return not entry

    def check(self) -> None:
        """Raises UserError if something other than `kind` is there."""
        _check_file(f"{self.name} is {str(self.path)!r}, which", "name another file", self.path, self.kind)

    def make(self) -> None:
        check_writable(Path(os.path.realpath(self.path)).parent, self.name)


@dataclass(frozen=True)
class Folder:
    """A folder in which `files` will be written, by name and kind, and folders whose names match `patterns`.

    A `new` one is written as a whole, and may not exist before, unless it is empty.
    """

    name: str
    path: Path
    files: dict[str, FileKind | None] = field(default_factory=dict)
    patterns: tuple[str, ...] = ()
    new: bool = False

    def writes(self, entry: str) -> bool:
        """As for a file; letter case is ignored, as some systems do."""
        return not entry or any(fnmatch(entry.lower(), name.lower()) for name in (*self.files, *self.patterns))

    def check(self) -> None:
        """Raises UserError if the folder holds files of others, or if something is in the way of what will be
        written.
        """
        where = f"{self.name} is {str(self.path)!r}"
        if self.new:
            if os.path.lexists(self.path) and (not self.path.is_dir() or any(self.path.iterdir())):
                raise UserError(f"{where}, and something is there; name a folder that is new, or empty this one")
            return
        if not self.path.is_dir():  # if something else is there, `make` says so
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
                raise UserError(f"{where}, and {name} in it is not a folder of a run; move it away")

    def make(self) -> None:
        check_writable(Path(os.path.realpath(self.path)).parent if self.new else self.path, self.name)


def check_outputs_are_ours(reads: Mapping[str, Path | str], *outputs: File | Folder) -> None:
    """Raises UserError if a command with these inputs and outputs would damage anything; else makes its output folders.

    `reads` has the inputs by the names that messages give them. One that does not exist, such as a model's hub id, is
    ignored.

        check_outputs_are_ours({"TEST_DATA": "rows.jsonl"}, File("OUTPUT (--output)", Path("out.jsonl"), ANSWERS))
    """
    for output in outputs:
        for name, path in reads.items():
            _check_apart(name, path, output)
        try:
            output.check()
        except OSError as error:
            raise UserError(
                f"{output.name} is {str(output.path)!r}, which cannot be inspected ({error.strerror}: "
                f"{error.filename}); name another one"
            ) from None
    for one, other in itertools.combinations(outputs, 2):
        if _within(one, other) or _within(other, one):
            raise UserError(
                f"{one.name} is {str(one.path)!r} and {other.name} is {str(other.path)!r}, and one would be written "
                f"over the other; name two that do not overlap"
            )
    for output in outputs:
        output.make()


def _within(one: File | Folder, other: File | Folder) -> bool:
    entry = entry_within(one.path, other.path)
    return entry is not None and other.writes(entry)


def _check_apart(name: str, path: Path | str, output: File | Folder) -> None:
    """Raises UserError if the output would be written over or into an input, or contains an input folder."""
    where = f"{output.name} is {str(output.path)!r}"
    if os.path.isdir(path) and entry_within(output.path, path) is not None:
        raise UserError(f"{where}, which is {name} or inside it, and that folder is only read; name another path")
    if isinstance(output, File):
        if same(output.path, path):
            raise UserError(f"{where}, which would write over {name}; name another file")
        return
    entry = entry_within(path, output.path) if os.path.lexists(path) else None
    if entry is not None and (output.writes(entry) or os.path.isdir(path)):
        raise UserError(f"{where}, and {name}, which is only read, is in it; name another folder")


def check_writable(folder: Path, name: str) -> None:
    """Makes `folder`. Raises UserError, with the setting or flag `name`, unless a file can be written there."""
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
    """Raises UserError, from `what` to `remedy`, unless `path` is a file of the kind, an empty file, or nothing."""
    try:
        status = path.stat() if may_be_link else path.lstat()
    except (FileNotFoundError, NotADirectoryError):  # `make` reports the latter
        return
    if stat.S_ISDIR(status.st_mode):
        raise UserError(f"{what} is a folder; name a file" if may_be_link else f"{what} is a folder; {remedy}")
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{what} is a link or a device, not a file; {remedy}")
    if not os.access(path, os.W_OK):
        raise UserError(f"{what} is not writable; {remedy}")
    if kind and status.st_size and not kind.fits(path):
        raise UserError(f"{what} exists and holds something other than {kind.description}; {remedy}")


def _first_row(file: Path) -> object:
    """The object in the first line that is not blank; None if it is not one."""
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
    """The first entry that SQLoRA did not write, in a folder that holds no run, nor only runs and answers; else
    None.
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
    """Whether sqlora.merge made it. Nothing else may be written there, but runs may be next to it."""
    return (folder / "README.md").is_file() and CARD.fits(folder / "README.md")


def _has_run(folder: Path) -> bool:
    """Whether it, a folder of an earlier run in it, or a partial one, has a run's fingerprint or logged steps."""
    folders = (folder, *folder.glob(PARTIAL + "*"), *folder.glob(PREFIX + "*"), *folder.glob(EARLIER + "/*"))
    return any(
        (path / FINGERPRINT).is_file() or ((path / METRICS).is_file() and LOGGED_STEPS.fits(path / METRICS))
        for path in folders
    )


def set_aside(folder: Path, paths: list[Path], description: str) -> None:
    """Moves `paths` from `folder` into a new folder below its EARLIER, and prints that."""
    if not paths:
        return
    # A link's own time, since it may lead nowhere; and no time that no calendar has.
    newest = min(time.time(), max(path.lstat().st_mtime for path in paths))
    aside = _new_folder(folder / EARLIER / datetime.fromtimestamp(newest).strftime("%Y-%m-%d_%H-%M-%S"))
    for path in paths:
        path.rename(aside / path.name)
    note(f"moved {description} from {folder} to {aside}")


def _new_folder(wanted: Path) -> Path:
    """Makes `wanted`, or the same name with a number if it exists, as after a run was copied back from it."""
    wanted.parent.mkdir(parents=True, exist_ok=True)
    number = 2
    while True:
        try:
            wanted.mkdir()
            return wanted
        except FileExistsError:
            wanted = wanted.with_name(f"{wanted.name.partition('+')[0]}+{number}")
            number += 1
