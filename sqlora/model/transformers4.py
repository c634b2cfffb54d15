"""transformers 4.34 to 4.37 with the names of transformers 5, its Trainer among them, and torch from 2.0 on with
today's.
"""

from __future__ import annotations

import dataclasses
import functools
import random
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy
import torch
import transformers
from transformers import TrainerState

RENAMED = {
    "eval_strategy": "evaluation_strategy",
    "activation_checkpointing": "gradient_checkpointing",
    "activation_checkpointing_kwargs": "gradient_checkpointing_kwargs",
}
LATER = ("gradient_checkpointing_kwargs", "accelerator_config")  # which these versions do without
RNG = "rng_state.pth"

for name, value in {  # which torch has since 2.5 and 2.6
    "get_device_module": functools.partial(getattr, torch),
    "OutOfMemoryError": torch.cuda.OutOfMemoryError,
    "accelerator": SimpleNamespace(empty_cache=lambda: torch.xpu.empty_cache()),
}.items():
    if not hasattr(torch, name):
        setattr(torch, name, value)


def make_training_arguments(**arguments) -> transformers.TrainingArguments:
    """The arguments of transformers 5, as this version takes them."""
    arguments = {RENAMED.get(name, name): value for name, value in arguments.items()}
    known = {field.name for field in dataclasses.fields(transformers.TrainingArguments)}
    return transformers.TrainingArguments(
        **{name: arguments[name] for name in arguments if name in known or name not in LATER}
    )


class AttentionInterface:
    """This version's models have their own attention, which cannot be replaced."""

    @staticmethod
    def register(name: str, attention) -> None:
        pass


def has_triton() -> bool:
    """Nothing is compiled here."""
    return False


# Not a field, which this version could not read back from a checkpoint's trainer_state.json.
setattr(  # noqa: B010 (a field to mypy, and in transformers 5)
    TrainerState,
    "best_global_step",
    property(lambda state: int(str(state.best_model_checkpoint or "-0").rpartition("-")[2])),
)


class Trainer(transformers.Trainer):
    """Calls what transformers 5's Trainer calls, and reads a checkpoint's pickles with weights_only."""

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        save = self._save_checkpoint
        # The best checkpoint is determined already, so `metrics` is not needed.
        setattr(self, "_save_checkpoint", lambda model, trial, metrics=None: save(model, trial))  # noqa: B010

    def evaluate(self, *arguments, **keywords) -> dict[str, float]:
        metrics = super().evaluate(*arguments, **keywords)
        if self.is_in_train:
            self._determine_best_metric(metrics, None)
        return metrics

    def _determine_best_metric(self, metrics: dict[str, float], trial) -> bool:
        value, best = metrics[str(self.args.metric_for_best_model)], self.state.best_metric
        if best is not None and not value < best:
            return False
        self.state.best_metric = value
        self.state.best_model_checkpoint = str(Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}")
        return True

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        super().log(logs)

    def _save_optimizer_and_scheduler(self, folder: str) -> None:
        optimizer, scheduler = cast(Any, self.optimizer), cast(Any, self.lr_scheduler)
        torch.save(optimizer.state_dict(), Path(folder) / "optimizer.pt")
        torch.save(scheduler.state_dict(), Path(folder) / "scheduler.pt")

    def _save_scaler(self, folder: str) -> None:
        """Only float16 has one, in which BACKEND bigdl does not train."""

    def _save_rng_state(self, folder: str) -> None:
        # Instead of the library's file, whose NumPy arrays could only be read without weights_only.
        name, keys, *rest = cast(tuple, numpy.random.get_state())
        states = {"python": random.getstate(), "numpy": [name, keys.tolist(), *rest], "cpu": torch.get_rng_state()}
        if self.args.device.type == "xpu":
            states["xpu"] = torch.xpu.get_rng_state()
        torch.save(states, Path(folder) / RNG)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        states = torch.load(Path(checkpoint) / RNG, weights_only=True)
        random.setstate(states["python"])
        numpy.random.set_state(tuple(states["numpy"]))
        torch.set_rng_state(states["cpu"])
        if self.args.device.type == "xpu":
            torch.xpu.set_rng_state(states["xpu"])

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        for name, part in (("optimizer.pt", self.optimizer), ("scheduler.pt", self.lr_scheduler)):
            cast(Any, part).load_state_dict(
                torch.load(Path(checkpoint) / name, map_location=self.args.device, weights_only=True)
            )


def rotate_checkpoints(
    output_dir: str, save_total_limit: int, best_model_checkpoint: str | None, use_mtime: bool
) -> None:
    """Deletes the oldest checkpoints beyond the limit, but not the best."""
    folders = [path for path in Path(output_dir).glob("checkpoint-*") if path.is_dir()]
    saved = sorted(folders, key=lambda folder: folder.stat().st_mtime)
    others = [folder for folder in saved[:-1] if str(folder) != best_model_checkpoint]
    for folder in others[: max(0, len(saved) - save_total_limit)]:
        shutil.rmtree(folder, ignore_errors=True)
