"""The log of a run: a progress bar, a line for each logged step, and the same as JSON in metrics.jsonl."""

from __future__ import annotations

import json
import time
from pathlib import Path

from transformers import TrainerCallback

from sqlora.model.device import Device, peak_memory
from sqlora.storage.atomic import replace_file, writing
from sqlora.system import distributed
from sqlora.system.console import console, progress_bar


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
        """Seconds spent in training itself, including those before an interrupt."""
        return time.perf_counter() - self.started - self.trainer.seconds_aside

    def on_train_begin(self, args, state, control, **_) -> None:
        self.mark = time.perf_counter()
        self.started = self.mark - self.trainer.seconds_before
        self.rows_at_mark = self.trainer.rows_seen
        self.aside_at_mark = 0.0
        self.bar = self.progress.add_task("training", total=state.max_steps, completed=state.global_step)
        if not distributed.is_main_process():
            return
        resumes = state.global_step and self.path.is_file()  # a checkpoint may have been copied without it
        lines = self.path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1] if resumes else []
        # Steps that were logged after the checkpoint are trained again.
        kept = "".join(line + "\n" for line in lines if _step(line) <= state.global_step)
        replace_file(self.path, lambda partial: partial.write_text(kept, encoding="utf-8"))

    def on_step_begin(self, args, state, control, **_) -> None:
        self.flush()

    def on_step_end(self, args, state, control, **_) -> None:
        self.progress.update(self.bar, completed=state.global_step)

    def on_log(self, args, state, control, logs=None, **_) -> None:
        self.entry["step"] = state.global_step
        self.entry |= {
            key: logs[key] for key in ("loss", "eval_loss", "eval_execution_match", "learning_rate") if key in logs
        }
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
            self.last[f"best_{args.metric_for_best_model}"] = state.best_metric

    def flush(self) -> None:
        """Writes the entry of the last step; called before its checkpoint is written, which must not be without it."""
        if "loss" not in self.entry and "eval_loss" not in self.entry:
            return
        if distributed.is_main_process():
            with writing(self.path), self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(self.entry) + "\n")
        console.print(_line(self.entry, self.trainer.state.max_steps), highlight=False, soft_wrap=True)
        self.last |= self.entry
        self.entry = {}


def _step(line: str) -> float:
    """The step of a line of metrics.jsonl; infinite for an incomplete line of a killed run."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")


def _line(entry: dict[str, float], max_steps: int) -> str:
    parts = [f"step {entry['step']:>{len(str(max_steps))}}/{max_steps}"]
    for key, name, form in (
        ("loss", "loss", ".4f"),
        ("eval_loss", "eval loss", ".4f"),
        ("eval_execution_match", "right", ".1%"),
        ("learning_rate", "learning rate", ".2e"),
        ("rows_per_second", "rows/s", ".1f"),
    ):
        if key in entry:
            parts.append(f"{name} {entry[key]:{form}}")
    return "  ".join(parts)
