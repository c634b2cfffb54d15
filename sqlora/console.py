"""What the terminal shows: the project's own lines, and not the libraries' noise."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import warnings
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

from sqlora import processes
from sqlora.errors import hide_passwords

console = Console(quiet=not processes.is_first())


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


def how_to_resume(done: str) -> str:
    """What a script that was interrupted says last. `done` is how far it came, such as "after step 20"."""
    again = [argument for argument in sys.argv[1:] if argument != "--resume"]
    started = "accelerate launch ..." if processes.several() else "python"
    command = shlex.join([Path(sys.argv[0]).name, *again, "--resume"])
    return hide_passwords(f"interrupted {done}; to go on: {started} {command}")


def progress_bar(unit: str = "") -> Progress:
    """A bar of things done out of all, with the time spent and left; nothing where the output is no terminal.

    With a `unit`, such as "rows", it tells how many are done a second.
    """
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()]
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


def plain(text: str, style: str = "", to: Console | None = None) -> Text:
    """Text that anybody may have written: no escape sequence reaches the terminal, nor a character that it cannot encode."""
    encoding = (to or console).encoding
    text = "".join(char if char.isprintable() or char == "\n" else " " for char in text)
    return Text(text.encode(encoding, "replace").decode(encoding), style)


def note(text: str) -> None:
    """One line that the user should see, though nothing is wrong."""
    console.print(f"note: {text}", style="yellow", highlight=False, markup=False, soft_wrap=True)


def print_facts(facts: dict[str, object]) -> None:
    """One line for each fact, its name first."""
    for name, value in facts.items():
        console.print(f"  {name:<24} {value}", highlight=False, markup=False, soft_wrap=True)
