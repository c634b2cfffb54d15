"""What the terminal shows: the project's own lines, the banner first, and not the libraries' noise."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from sqlora.data import TokenisedSplits
    from sqlora.device import Device
    from sqlora.lint import Checked
    from sqlora.memory import Estimate
    from sqlora.passes import Form
    from sqlora.settings import Settings

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


def print_banner(settings: Settings, device: Device) -> None:
    """What runs, before it runs."""
    s = settings
    console.rule("[bold]SQLoRA fine-tuning")
    print_facts({
        "foundation model": s.BASE_MODEL,
        "training data": f"{s.DATA_PATH}, and {s.EXTRA_DATA}, {s.EXTRA_WEIGHT} times" if s.EXTRA_DATA else s.DATA_PATH,
        "adapter save path": s.MODEL_PATH,
        "checkpoints": s.CHECKPOINT_DIR,
        "device": f"{device.type}: {device.name} ({device.reason})",
        "dtype": f"{str(device.dtype).removeprefix('torch.')} ({device.dtype_reason}); base weights {s.LOW_BIT}",
        "batch size": f"{s.BATCH_SIZE} rows, accumulation {s.GRADIENT_ACCUMULATION_STEPS}: "
                      f"{s.BATCH_SIZE * s.GRADIENT_ACCUMULATION_STEPS:,} rows a step{_shared_out()}",
        "steps": f"{s.MAX_STEPS}, warm-up {s.WARMUP_STEPS}",
        "save, eval, log every": f"{s.SAVE_STEPS}, {s.EVAL_STEPS}, {s.LOGGING_STEPS} steps; save limit {s.SAVE_TOTAL_LIMIT}",
        "learning rate": f"{s.LEARNING_RATE}, cosine",
        "max gradient norm": s.MAX_GRAD_NORM,
        "LoRA": f"r {s.LORA_R}, alpha {s.LORA_ALPHA}, dropout {s.LORA_DROPOUT}, on {', '.join(s.LORA_TARGETS)}",
    })
    if s.WARMUP_STEPS >= s.MAX_STEPS:
        note(f"WARMUP_STEPS is {s.WARMUP_STEPS} of {s.MAX_STEPS} steps, so the learning rate never reaches its height")


def _shared_out() -> str:
    here = processes.here()
    if here.world == 1:
        return ""
    return f", over {here.world} processes" + (", which share the base (FSDP2)" if here.sharded else "")


def print_generation(settings: Settings, device: Device, rows: int) -> None:
    """What answers, before it answers."""
    console.rule("[bold]SQLoRA generation")
    print_facts({
        "foundation model": settings.BASE_MODEL,
        "device": f"{device.type}: {device.name} ({device.reason})",
        "questions": "as you ask them" if settings.DATABASE and settings.INTERACTIVE else
                     f"1, {settings.QUESTION}" if settings.QUESTION else f"{rows}, {settings.QUESTIONS or settings.TEST_DATA}",
    })


def print_rows(read: int, checked: Checked, overlaps: dict[str, int], apart: str, splits: TokenisedSplits,
               settings: Settings) -> None:
    """How many rows there are, and what became of them."""
    train, validation = splits.train, splits.validation
    first = "of a stream, the first " if settings.STREAMING else ""
    print_facts({
        "rows": f"{first}{read:,} read, {len(train.rows):,} for training, {len(validation.rows):,} for validation",
        "validation": f"no {apart} of the training rows",
        "data check": "off" if settings.CHECK_DATA == "off" else f"{settings.CHECK_DATA}: {checked}",
        "rows dropped": f"{train.too_long + validation.too_long:,} longer than {settings.MAX_LENGTH} tokens",
    })
    if settings.HOLDOUT:
        reasons = ", ".join(f"{count:,} with a {kind} of it" for kind, count in overlaps.items()) or "none overlaps"
        print_facts({"held out": f"{sum(overlaps.values()):,} rows for {settings.HOLDOUT}: {reasons}"})
    if apart == "SQL":
        note("too many rows share their tables for a split by table, so validation rows ask of tables that are trained on")


def print_form(form: Form) -> None:
    """How rows go through the model."""
    print_facts({"packing": f"{form.name} ({form.reason}); compile {'on' if form.compiled else 'off'} ({form.compile_reason})"})


def print_estimate(found: Estimate, settings: Settings) -> None:
    """What memory.estimate predicts."""
    console.rule("[bold]estimate")
    hours, seconds = divmod(found.step_seconds * settings.MAX_STEPS, 3600)
    print_facts({
        "peak memory": f"{found.peak_bytes / 1e9:.1f} GB, in a pass of {found.pass_tokens:,} tokens",
        "optimiser step": f"{found.step_seconds:.1f} s for {found.step_tokens:,} tokens",
        "all steps": f"{hours:.0f} h {seconds // 60:.0f} min, without evaluation and saving",
    })


def print_end(metrics: dict[str, float], status: str, folder: Path, curve: Path) -> None:
    """What the run came to, and where its files are. `status` is one of checkpoints.py."""
    console.rule(f"[bold]{status}")
    if "best_eval_loss" in metrics:
        best = f"{metrics['best_eval_loss']:.4f} at step {metrics['best_step']}"
        print_facts({"evaluation loss": f"{best}, the best, which is kept"})
    print_facts({
        "speed": f"{metrics['rows_per_second']:.1f} rows/s, {metrics['train_seconds']:.0f} s without evaluation and saving",
        "peak memory": f"{metrics['peak_memory_bytes'] / 1e9:.2f} GB",
        "adapter": folder,
        "loss curve": curve,
    })


def how_to_resume(done: str) -> str:
    """What a script that was interrupted says last. `done` is how far it came, such as "after step 20"."""
    again = [argument for argument in sys.argv[1:] if argument != "--resume"]
    started = "accelerate launch ..." if processes.several() else "python"
    command = shlex.join([Path(sys.argv[0]).name, *again, "--resume"])
    return hide_passwords(f"interrupted {done}; to go on: {started} {command}")


def print_adapter(folder: Path, fingerprint: dict | None, settings: Settings) -> None:
    """Which adapter answers, and what of it could not be checked."""
    print_facts({"adapter": folder})
    if fingerprint is None:
        note("this adapter has no sqlora.json, so it is not known whether it was trained on this base, prompt and tokenizer")
    elif fingerprint.get("quantisation") != settings.LOW_BIT:
        note(f"this adapter was trained on {fingerprint.get('quantisation')} weights, and LOW_BIT is {settings.LOW_BIT}")


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
