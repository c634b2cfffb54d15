"""The callback that ends a run before its last step: after a signal, or at a bad loss."""

from __future__ import annotations

from collections.abc import Callable

from transformers import TrainerCallback

from sqlora.system import distributed, signals
from sqlora.system.console import note


class Stopping(TrainerCallback):
    """Stops training, with a checkpoint, once `stop` has a signal, in whichever process it came.

    Before anything is logged, evaluated or saved it calls `check_losses`, which raises for a bad loss. `stopped_by` is
    the signal that ended the run, or 0.
    """

    def __init__(self, check_losses: Callable[[], None]) -> None:
        self.check_losses = check_losses
        self.stop = signals.Stop()
        self.stopped_by = 0

    def on_step_end(self, args, state, control, **_) -> None:
        signal = distributed.all_reduce_max(self.stop.signal)
        if state.global_step >= state.max_steps:
            control.should_log = control.should_evaluate = control.should_save = True
        elif signal:
            if not self.stop.signal:  # it came in another process
                note(signals.announcement(signal))
            self.stopped_by = signal
            control.should_save = control.should_training_stop = True
        if control.should_log or control.should_evaluate or control.should_save:
            self.check_losses()
