"""What the terminal shows: the project's own lines, and not the libraries' noise."""

from __future__ import annotations

import csv
import json
import logging
import os
import re
import shlex
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from sqlora.system import distributed
from sqlora.system.errors import hide_passwords, mute


class _Terminal(Console):
    def on_broken_pipe(self) -> None:
        """Where nobody reads any more the work goes on without a word, in place of rich's exit in the midst of it."""
        mute(self.file)


console = _Terminal(quiet=not distributed.is_main_process())
# control characters of both ranges, ends of lines, halves of characters, other directions of writing, tags
UNSAFE = re.compile(
    r"[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]|\r(?!\n)|[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
    r"|[\U000e0000-\U000e007f]"
)


def quiet_libraries() -> None:
    """Silences the libraries' progress bars, advice and routine warnings; errors still come as exceptions.

    To be called before they are imported, since some talk while they are. A download's progress bar stays.
    """
    warnings.filterwarnings("ignore")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DATASETS_VERBOSITY", "error")
    for name in ("bitsandbytes", "accelerate", "peft", "torch", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()


def resume_hint(done: str) -> str:
    """What a script that was interrupted says last. `done` is how far it came, such as "after step 20"."""
    again = [hide_passwords(argument) for argument in sys.argv[1:] if argument != "--resume"]
    started = "accelerate launch ..." if distributed.is_distributed() else "python"
    command = shlex.join([Path(sys.argv[0]).name, *again, "--resume"])
    return f"interrupted {done}; to go on: {started} {command}"


def progress_bar(unit: str = "") -> Progress:
    """A bar of things done out of all, with the time spent and left; nothing where the output is no terminal.

    With a `unit`, such as "rows", it tells how many are done a second.
    """
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    if unit:
        columns.append(Speed(unit))
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


class Speed(ProgressColumn):
    """Things done a second, in the last half minute."""

    def __init__(self, unit: str):
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f} {self.unit}/s" if task.speed else "")


def printable(text: str) -> str:
    """Text that anybody may have written, without what a terminal obeys: an escape sequence, another direction of
    writing.

    Such characters are shown as Python spells them, \\x1b; lines and tabs stay.
    """
    return UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def plain(text: str, style: str = "", to: Console | None = None) -> Text:
    """Printable text for rich, which takes no [red] in it for markup; `?` for what the terminal cannot encode."""
    encoding = (to or console).encoding
    return Text(printable(text).encode(encoding, "replace").decode(encoding), style)


def note(text: str) -> None:
    """One line that the user should see, though nothing is wrong."""
    console.print(plain(" ".join(f"note: {text}".split()), "yellow"), soft_wrap=True)


def print_facts(facts: dict[str, object]) -> None:
    """One line for each fact, its name first."""
    for name, value in facts.items():
        console.print(plain(f"  {name:<24} {value}"), soft_wrap=True)


def print_json(record: dict[str, object]) -> None:
    """One line on standard output, which any terminal can show: what is not printable is escaped, and nothing is
    lost.
    """
    text = json.dumps(record, ensure_ascii=not _takes_unicode(), default=str)
    print(UNSAFE.sub(lambda found: json.dumps(found[0])[1:-1], text), flush=True)


def print_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows under their names on standard output, what is not printable as `printable` has it."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    for row in (columns, *rows):
        writer.writerow([printable(value) if isinstance(value, str) else value for value in row])
    sys.stdout.flush()


def _takes_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().startswith("utf")
