"""TrainingArguments: what the settings say, on one device."""

import pytest

from sqlora.model import device
from sqlora.system.errors import UserError
from sqlora.training import arguments

CPU = device.choose_device("cpu", "float32")


def test_the_arguments_are_the_settings(make_settings):
    settings = make_settings("--max-steps", "9", "--warmup-steps", "3", "--learning-rate", "0.001", "--seed", "7")
    found = arguments.training_arguments(settings, CPU, "loss")
    assert (found.max_steps, found.warmup_steps, found.learning_rate, found.seed) == (9, 3, 0.001, 7)
    assert found.lr_scheduler_type == "cosine"
    assert not found.bf16
    assert not found.fp16
    assert found.n_gpu <= 1


def test_a_tracker_that_is_not_installed(monkeypatch):
    arguments.check_tracker("none")
    monkeypatch.setattr(arguments.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="--report-to.*trackio.*pip install"):
        arguments.check_tracker("trackio")
