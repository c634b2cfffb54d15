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


def test_the_best_answers_choose_and_of_equal_ones_the_last(make_trainer):
    shares = iter([0.1, 0.5, 0.3, 0.5, 0.2, 0.4])
    trainer = make_trainer("--max-steps", "6", "--eval-steps", "1", "--save-steps", "1", scorer=lambda: next(shares))
    trainer.train()
    assert (trainer.state.best_global_step, trainer.state.best_metric) == (4, 0.5)
    metrics = trainer.run_log.metrics()
    assert (metrics["best_step"], metrics["best_eval_execution_match"]) == (4, 0.5)
    assert "best_eval_loss" not in metrics


def test_a_run_without_gains_stops_early_and_is_finished(make_trainer):
    shares = iter([0.1, 0.5, 0.3, 0.5, 0.2, 0.4])
    flags = ("--max-steps", "6", "--eval-steps", "1", "--save-steps", "1", "--early-stopping", "2")
    trainer = make_trainer(*flags, scorer=lambda: next(shares))
    trainer.train()
    assert (trainer.state.global_step, trainer.interrupted) == (4, False)
