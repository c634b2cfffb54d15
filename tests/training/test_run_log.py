"""The log of a run: one JSON object for each logged step."""

import json
from pathlib import Path


def test_every_logged_step_is_one_json_object(make_trainer):
    trainer = make_trainer("--max-steps", "5", "--logging-steps", "2", "--eval-steps", "2", "--save-steps", "4")
    trainer.train()
    lines = [json.loads(line) for line in (Path(trainer.args.output_dir) / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 5]
    keys = {"step", "loss", "eval_loss", "learning_rate", "rows_per_second", "peak_memory_bytes"}
    assert all(line.keys() == keys for line in lines)
    assert lines[-1]["eval_loss"] < lines[0]["eval_loss"]
    end = trainer.run_log.metrics()
    assert end["best_eval_loss"] == min(line["eval_loss"] for line in lines)
