"""The checkpoints of a run: written whole or not at all, the best of them kept, and read again by --resume."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers.trainer import TRAINER_STATE_NAME

from sqlora.model import adapter
from sqlora.model.base_models import BaseModel
from sqlora.model.transformers_compat import rotate_checkpoints
from sqlora.storage import atomic, checkpoints
from sqlora.system import distributed
from sqlora.system.errors import UserError

PROGRESS = "progress.json"  # in a checkpoint: the state of the run that Trainer does not save
RNG = "rng_state.pth"  # Trainer's file for the state of the random numbers; those of other ranks have it in their name


class CheckpointWriter:
    """Writes and reads the checkpoints of a Trainer; in a distributed run the main process writes.

    `base` and `fingerprint` go into each sqlora.json; at most `limit` checkpoints are kept, the best among them.
    """

    def __init__(self, base: BaseModel, fingerprint: Mapping[str, object], limit: int) -> None:
        self.base = base
        self.fingerprint = fingerprint
        self.limit = limit

    def write_adapter(self, trainer, folder: Path) -> None:
        """Writes the adapter's weights and configuration."""
        adapter.write_adapter(trainer.accelerator.unwrap_model(trainer.model), folder, self.base)

    def read_adapter(self, trainer, folder: Path) -> None:
        """Loads the weights of a checkpoint into the trainer's adapter."""
        adapter.resume_adapter(trainer.accelerator.unwrap_model(trainer.model), folder)

    def save(self, trainer, progress: Callable[[], Mapping[str, object]], metrics: Callable[[], Mapping]) -> None:
        """Writes a checkpoint of the trainer's step, with its `progress` and the `metrics` so far.

        Raises UserError if a weight is not finite, or if the disk is full or the like.
        """
        step = trainer.state.global_step
        if not all(parameter.isfinite().all() for parameter in trainer.model.parameters() if parameter.requires_grad):
            raise bad_loss("adapter's weight", math.nan, step)
        folder = folder_of(trainer, step)
        if step == trainer.state.best_global_step:
            trainer.state.best_model_checkpoint = str(folder)
        with atomic.writing(folder):
            states = self._gather_rng_states(trainer)
        if states is not None:
            self._write(trainer, folder, states, progress, metrics)

    def load_rng_state(self, trainer, checkpoint: str | None, load: Callable[[str | None], None]) -> None:
        """Restores this rank's random numbers; `load` is Trainer's function for the file of the main process."""
        rank = distributed.rank_info().rank
        if checkpoint is None or rank == 0:
            load(checkpoint)
        elif (own := Path(checkpoint, _rng_name(rank))).is_file():  # the run may have had fewer processes
            with _scratch(trainer) as folder:
                shutil.copy(own, Path(folder, RNG))
                load(folder)

    def _write(
        self,
        trainer,
        folder: Path,
        rng_states: list[bytes],
        progress: Callable[[], Mapping[str, object]],
        metrics: Callable[[], Mapping],
    ) -> None:
        with atomic.new_folder(folder) as partial:
            trainer.save_model(str(partial), _internal_call=True)
            trainer._save_optimizer_and_scheduler(str(partial))
            trainer._save_scaler(str(partial))
            for rank, state in enumerate(rng_states):
                (partial / _rng_name(rank)).write_bytes(state)
            trainer.state.save_to_json(str(partial / TRAINER_STATE_NAME))
            (partial / PROGRESS).write_text(json.dumps(progress()), encoding="utf-8")
            checkpoints.seal(partial, self.fingerprint, checkpoints.CHECKPOINT, metrics())
        rotate_checkpoints(
            output_dir=str(folder.parent),
            save_total_limit=self.limit,
            best_model_checkpoint=trainer.state.best_model_checkpoint,
            use_mtime=True,
        )

    def _gather_rng_states(self, trainer) -> list[bytes] | None:
        """The files in which Trainer saves the random numbers, one per process; None in other than the main process."""
        with _scratch(trainer) as folder:
            trainer._save_rng_state(folder)
            return distributed.gather_bytes(Path(folder, RNG).read_bytes())


def folder_of(trainer, step: int) -> Path:
    """The folder of the checkpoint after `step`."""
    return Path(trainer.args.output_dir) / f"{checkpoints.PREFIX}{step}"


def read_progress(checkpoint: Path) -> dict[str, Any]:
    """What `progress` was when the checkpoint was written."""
    return json.loads((checkpoint / PROGRESS).read_text(encoding="utf-8"))


def _scratch(trainer) -> tempfile.TemporaryDirectory[str]:
    """A temporary folder next to the checkpoints: the system's own may be full, or small."""
    return tempfile.TemporaryDirectory(dir=trainer.args.output_dir, prefix=atomic.PARTIAL)


def _rng_name(rank: int) -> str:
    return f"rng_state_{rank}.pth" if rank else RNG


def bad_loss(name: str, value: float, step: int) -> UserError:
    """The error for a loss, or another number, that is not finite."""
    return UserError(
        f"the {name} is {value} at step {step}; it was not saved: lower LEARNING_RATE (--learning-rate), lengthen "
        f"WARMUP_STEPS (--warmup-steps), or set DTYPE (--dtype) to float32"
    )
