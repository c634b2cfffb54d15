"""Checkpoints: old ones go, and the best stays."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from sqlora.storage import checkpoints
from sqlora.training import sql_trainer


def test_old_checkpoints_go_and_the_best_stays(make_trainer):
    trainer = make_trainer("--max-steps", "6", "--eval-steps", "1", "--save-steps", "1", "--save-total-limit", "2")
    trainer.train()
    kept = {path.name for path in Path(trainer.args.output_dir).glob("checkpoint-*")}
    assert len(kept) == 2
    assert f"checkpoint-{trainer.state.best_global_step}" in kept


def test_the_best_is_the_best_that_was_saved(make_trainer, monkeypatch):
    losses = iter([0.5, 2.0, 0.4, 1.0, 0.3, 1.5])
    evaluate = sql_trainer.SqlTrainer.evaluate
    monkeypatch.setattr(
        sql_trainer.SqlTrainer,
        "evaluate",
        lambda self, *a, **k: evaluate(self, *a, **k) | {"eval_loss": next(losses)},
    )
    trainer = make_trainer("--max-steps", "6", "--eval-steps", "1", "--save-steps", "2", "--save-total-limit", "1")
    trainer.train()
    assert (trainer.state.best_global_step, trainer.state.best_metric) == (4, 1.0)
    assert Path(trainer.state.best_model_checkpoint).name == "checkpoint-4"
    kept = load_file(Path(trainer.state.best_model_checkpoint) / checkpoints.WEIGHTS)
    for name, tensor in trainer.model.named_parameters():
        if "lora_" in name:
            torch.testing.assert_close(kept[name.replace(".default", "")], tensor.detach())
