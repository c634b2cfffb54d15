"""What a Trainer writes of a run, and takes up again: checkpoints, of which the best stays, whole or not at all."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import time
from pathlib import Path

from transformers.trainer import TRAINER_STATE_NAME

from sqlora.data.streaming import Stream
from sqlora.model import adapter
from sqlora.model.transformers_compat import Trainer, rotate_checkpoints
from sqlora.storage import atomic, checkpoints
from sqlora.system import distributed
from sqlora.system.errors import UserError

PROGRESS = "progress.json"  # in a checkpoint: what of the run's state Trainer does not keep
# as Trainer calls the random numbers' state of its one process; those of others have their rank in it
RNG = "rng_state.pth"


class SavingTrainer(Trainer):
    """The part of SqlTrainer (training.py) that writes and reads checkpoints. Of several processes the first writes."""

    def _determine_best_metric(self, metrics, trial) -> bool:
        # An evaluation between two checkpoints cannot be the best that is kept, even if an interrupt adds a checkpoint
        # there.
        step = self.state.global_step
        regular = step % self.args.save_steps == 0 or step >= self.state.max_steps
        return regular and super()._determine_best_metric(metrics, trial)

    def _load_best_model(self) -> None:
        if not self.interrupted and distributed.is_main_process():  # an interrupted run's adapter is the one so far
            super()._load_best_model()

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        adapter.write_adapter(
            self.accelerator.unwrap_model(self.model), Path(output_dir or self.args.output_dir), self.base
        )

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        adapter.resume_adapter(self.accelerator.unwrap_model(self.model), Path(resume_from_checkpoint))

    def _save_checkpoint(self, model, trial) -> None:
        start = time.perf_counter()
        self.run_log.flush()
        step = self.state.global_step
        if not all(parameter.isfinite().all() for parameter in self.model.parameters() if parameter.requires_grad):
            raise bad_loss("adapter's weight", math.nan, step)
        folder = self._checkpoint(step)
        if step == self.state.best_global_step:
            self.state.best_model_checkpoint = str(folder)
        with atomic.writing(folder):
            states = self._gather_rng_states()
        if distributed.is_main_process():
            self._write_checkpoint(folder, states)
        self.seconds_aside += time.perf_counter() - start

    def _write_checkpoint(self, folder: Path, rng_states: list[bytes]) -> None:
        with atomic.new_folder(folder) as partial:
            self.save_model(str(partial), _internal_call=True)
            self._save_optimizer_and_scheduler(str(partial))
            self._save_scaler(str(partial))
            for rank, state in enumerate(rng_states):
                (partial / _rng_name(rank)).write_bytes(state)
            self.state.save_to_json(str(partial / TRAINER_STATE_NAME))
            progress = {
                "unlogged": self.unlogged,
                "rows_seen": self.rows_seen,
                "seconds": self.run_log.seconds(),
                "most_tokens": self.most_tokens,
                "place": self.place,
            }
            (partial / PROGRESS).write_text(json.dumps(progress), encoding="utf-8")
            checkpoints.seal(partial, self.fingerprint, checkpoints.CHECKPOINT, self.run_log.metrics())
        rotate_checkpoints(
            output_dir=str(folder.parent),
            save_total_limit=self.settings.SAVE_TOTAL_LIMIT,
            best_model_checkpoint=self.state.best_model_checkpoint,
            use_mtime=True,
        )

    def _gather_rng_states(self) -> list[bytes] | None:
        """The files in which Trainer keeps the state of the random numbers, one for each process; in the first
        alone.
        """
        with self._scratch() as folder:
            self._save_rng_state(folder)
            return distributed.gather_bytes(Path(folder, RNG).read_bytes())

    def _load_rng_state(self, checkpoint: str | None) -> None:
        rank = distributed.rank_info().rank
        if checkpoint is None or rank == 0:
            super()._load_rng_state(checkpoint)
        elif (own := Path(checkpoint, _rng_name(rank))).is_file():  # the run may have had fewer processes
            with self._scratch() as folder:
                shutil.copy(own, Path(folder, RNG))
                super()._load_rng_state(folder)

    def _scratch(self) -> tempfile.TemporaryDirectory:
        """A folder for a moment, where the checkpoints go: the system's own for such may be full, or small."""
        return tempfile.TemporaryDirectory(dir=self.args.output_dir, prefix=atomic.PARTIAL)

    def _take_up(self, progress: dict) -> None:
        self.unlogged = [tuple(one) for one in progress["unlogged"]]
        self.rows_seen, self.seconds_before = progress["rows_seen"], progress["seconds"]
        if isinstance(self.train_dataset, Stream):
            self.train_dataset.resume(progress["place"])
        # The same passes give the same rounding.
        self.most_tokens = self.settings.MAX_TOKENS_PER_PASS or progress["most_tokens"]

    def _init_training_state(self, *arguments) -> tuple[int, int]:
        places = super()._init_training_state(*arguments)
        if self.state.best_global_step and (best := self._checkpoint(self.state.best_global_step)).is_dir():
            self.state.best_model_checkpoint = str(best)  # wherever the run's folder was before
        return places

    def _checkpoint(self, step: int) -> Path:
        return Path(self.args.output_dir) / f"{checkpoints.PREFIX}{step}"


def _rng_name(rank: int) -> str:
    return f"rng_state_{rank}.pth" if rank else RNG


def bad_loss(name: str, value: float, step: int) -> UserError:
    return UserError(
        f"the {name} is {value} at step {step}; nothing of it was saved: lower LEARNING_RATE (--learning-rate), "
        f"lengthen WARMUP_STEPS (--warmup-steps), or set DTYPE (--dtype) to float32"
    )
