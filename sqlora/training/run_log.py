"""What a run tells while it trains: a progress bar, a line for each logged step, and the same as JSON in
metrics.jsonl.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from transformers import TrainerCallback

from sqlora.model.device import Device, peak_memory
from sqlora.storage.atomic import replace_file, writing
from sqlora.system import distributed, signals
from sqlora.system.console import console, note, progress_bar


class RunLog(TrainerCallback):
    """The log of a SqlTrainer's run, in the file `path`."""

    def __init__(self, trainer, path: Path, device: Device):
        self.trainer = trainer
        self.path = path
        self.device = device
        self.entry: dict[str, float] = {}
        self.last: dict[str, float] = {}
        self.progress = progress_bar()

    def metrics(self) -> dict[str, float]:
        """The latest known figures of the run."""
        return self.last | self.entry

    def seconds(self) -> float:
        """Spent so far in training itself, before an interrupt too."""
        return time.perf_counter() - self.started - self.trainer.seconds_aside

    def on_train_begin(self, args, state, control, **_) -> None:
        self.mark = time.perf_counter()
        self.started = self.mark - self.trainer.seconds_before
        self.rows_at_mark = self.trainer.rows_seen
        self.aside_at_mark = 0.0
        self.bar = self.progress.add_task("training", total=state.max_steps, completed=state.global_step)
        if not distributed.is_main_process():
            return
        goes_on = state.global_step and self.path.is_file()  # a checkpoint may have been copied without it
        lines = self.path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1] if goes_on else []
        # What was logged after the checkpoint from which the run goes on is trained again.
        kept = "".join(line + "\n" for line in lines if _step(line) <= state.global_step)
        replace_file(self.path, lambda partial: partial.write_text(kept, encoding="utf-8"))

    def on_step_begin(self, args, state, control, **_) -> None:
        self.flush()

    def on_step_end(self, args, state, control, **_) -> None:
        self.progress.update(self.bar, completed=state.global_step)
        signal = distributed.all_reduce_max(self.trainer.stop.signal)
        if state.global_step >= state.max_steps:
            control.should_log = control.should_evaluate = control.should_save = True
        elif signal:
            if not self.trainer.stop.signal:  # it came in another process
                note(signals.announcement(signal))
            self.trainer.stopped_by = signal
            control.should_save = control.should_training_stop = True
        if control.should_log or control.should_evaluate or control.should_save:
            self.trainer.check_losses()

    def on_log(self, args, state, control, logs=None, **_) -> None:
        self.entry["step"] = state.global_step
        self.entry |= {key: logs[key] for key in ("loss", "eval_loss", "learning_rate") if key in logs}
        if "loss" in logs:
            now, aside, rows = time.perf_counter(), self.trainer.seconds_aside, self.trainer.rows_seen
            seconds = now - self.mark - (aside - self.aside_at_mark)
            self.entry["rows_per_second"] = round((rows - self.rows_at_mark) / seconds, 3)
            self.entry["peak_memory_bytes"] = distributed.all_reduce_max(peak_memory(self.device.type))
            self.mark, self.aside_at_mark, self.rows_at_mark = now, aside, rows

    def on_train_end(self, args, state, control, **_) -> None:
        self.flush()
        seconds = self.seconds()
        self.last["rows_per_second"] = round(self.trainer.rows_seen / seconds, 3)
        self.last["train_seconds"] = round(seconds, 1)
        self.last["peak_memory_bytes"] = distributed.all_reduce_max(peak_memory(self.device.type))
        if not self.trainer.interrupted:
            self.last["best_step"] = state.best_global_step
            self.last["best_eval_loss"] = state.best_metric

    def flush(self) -> None:
        """Writes what was logged of the last step; before its checkpoint is written, which it must not be without."""
        if "loss" not in self.entry and "eval_loss" not in self.entry:
            return
        if distributed.is_main_process():
            with writing(self.path), self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(self.entry) + "\n")
        console.print(_line(self.entry, self.trainer.state.max_steps), highlight=False, soft_wrap=True)
        self.last |= self.entry
        self.entry = {}


def _step(line: str) -> float:
    """Of a line of metrics.jsonl; infinite for one that a killed run left half written."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")


def _line(entry: dict[str, float], max_steps: int) -> str:
    parts = [f"step {entry['step']:>{len(str(max_steps))}}/{max_steps}"]
    for key, name, form in (
        ("loss", "loss", ".4f"),
        ("eval_loss", "eval loss", ".4f"),
        ("learning_rate", "learning rate", ".2e"),
        ("rows_per_second", "rows/s", ".1f"),
    ):
        if key in entry:
            parts.append(f"{name} {entry[key]:{form}}")
    return "  ".join(parts)
