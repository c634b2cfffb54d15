"""The end of a run before its last step: after a signal with a checkpoint, and never with a bad loss."""

import signal
from types import SimpleNamespace

import pytest
from transformers import TrainerControl

from sqlora.training.stopping import Stopping


def control_after(stopping, step, **flags):
    control = TrainerControl(**flags)
    stopping.on_step_end(None, SimpleNamespace(global_step=step, max_steps=4), control)
    return control


def test_a_signal_saves_and_stops():
    checks = []
    stopping = Stopping(lambda: checks.append(1))
    control = control_after(stopping, 1)
    assert (control.should_save, control.should_training_stop, stopping.stopped_by, checks) == (False, False, 0, [])
    stopping.stop.signal = signal.SIGTERM
    control = control_after(stopping, 2)
    assert (control.should_save, control.should_training_stop) == (True, True)
    assert (stopping.stopped_by, checks) == (signal.SIGTERM, [1])


def test_the_last_step_is_logged_evaluated_and_saved_and_a_signal_comes_too_late():
    stopping = Stopping(lambda: None)
    stopping.stop.signal = signal.SIGINT
    control = control_after(stopping, 4)
    assert control.should_log
    assert control.should_evaluate
    assert control.should_save
    assert stopping.stopped_by == 0


@pytest.mark.parametrize("flag", ["should_log", "should_evaluate", "should_save"])
def test_a_bad_loss_ends_the_run_before_anything_is_written(flag):
    def bad():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        control_after(Stopping(bad), 1, **{flag: True})
