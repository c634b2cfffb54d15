"""Output to the terminal: the project's lines without the libraries' noise, safe for any text."""

from __future__ import annotations

import csv
import json
import logging
import os
import re
import shlex
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
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
        """Continues silently when nobody reads the output any more; rich would exit in the middle of the work."""
        mute(self.file)


console = _Terminal(quiet=not distributed.is_main_process())
# control characters of both ranges, line separators, lone surrogates, changes of writing direction, tags
UNSAFE = re.compile(
    r"[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]|\r(?!\n)|[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
    r"|[\U000e0000-\U000e007f]"
)


def quiet_libraries() -> None:
    """Silences the libraries' progress bars, advice and routine warnings; errors are still raised.

    Call it before they are imported, since some print while they are. Progress bars of downloads stay.
    """
    warnings.filterwarnings("ignore")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DATASETS_VERBOSITY", "error")
    for name in ("bitsandbytes", "accelerate", "peft", "torch", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()


def resume_hint(done: str) -> str:
    """The last line of an interrupted script. `done` says how far it got, such as "after step 20"."""
    again = [hide_passwords(argument) for argument in sys.argv[1:] if argument != "--resume"]
    started = "accelerate launch ..." if distributed.is_distributed() else "python"
    command = shlex.join([Path(sys.argv[0]).name, *again, "--resume"])
    return f"interrupted {done}. Resume with: {started} {command}"


def progress_bar(unit: str = "") -> Progress:
    """A progress bar with the time spent and left; nothing where the output is not a terminal.

    With a `unit`, such as "rows", it also shows the speed.
    """
    columns: list[ProgressColumn] = [
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
    """The speed in units per second, over the last half minute."""

    def __init__(self, unit: str):
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f} {self.unit}/s" if task.speed else "")


def printable(text: str) -> str:
    """Text from any source without what controls a terminal, such as escape sequences and changes of writing direction.

    Such characters are escaped as in Python, \\x1b; line breaks and tabs stay.
    """
    return UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def plain(text: str, style: str = "", to: Console | None = None) -> Text:
    """Printable text for rich, without markup; `?` for characters that the terminal cannot encode."""
    encoding = (to or console).encoding
    return Text(printable(text).encode(encoding, "replace").decode(encoding), style)


def note(text: str) -> None:
    """Prints a line that the user should see although nothing is wrong."""
    console.print(plain(" ".join(f"note: {text}".split()), "yellow"), soft_wrap=True)


def print_facts(facts: Mapping[str, object]) -> None:
    """Prints a line for each fact, its name first."""
    for name, value in facts.items():
        console.print(plain(f"  {name:<24} {value}"), soft_wrap=True)


def print_json(record: Mapping[str, object]) -> None:
    """Prints the record as a line of JSON on standard output, with all that is not printable escaped."""
    text = json.dumps(record, ensure_ascii=not _takes_unicode(), default=str)
    print(UNSAFE.sub(lambda match: json.dumps(match[0])[1:-1], text), flush=True)


def print_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a header and rows as CSV on standard output, their text as `printable` makes it."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    for row in (columns, *rows):
        writer.writerow([printable(value) if isinstance(value, str) else value for value in row])
    sys.stdout.flush()


def _takes_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().startswith("utf")
