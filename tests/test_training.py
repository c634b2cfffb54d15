"""The training step: exact without padding's mask, alive after an evaluation, and ended by a bad loss."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from sqlora import adapter, backend, data, device, hub, training
from sqlora.data import IGNORED_LABEL
from sqlora.errors import UserError

CPU = device.choose_device("cpu", "float32")


def tokenised(tokenizer, settings, count=12):
    rows = [
        {"question": "How many rows " + "are there " * (i % 5) + "?", "context": f"CREATE TABLE t{i} (a INTEGER)",
         "answer": f"SELECT COUNT(*) FROM t{i}" + " WHERE a > 1" * (i % 3)}
        for i in range(count)
    ]
    return data.tokenise_splits(rows[: count - 4], rows[count - 4 :], tokenizer, settings)


def gradients(model) -> dict[str, torch.Tensor]:
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("train_on_inputs", [False, True])
def test_right_padding_without_a_mask_equals_masked_left_padded_rows_one_by_one(
    llama_folder, llama_tokenizer, make_settings, train_on_inputs
):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(llama_folder, dtype=torch.float64)
    model = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")).double()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    flags = ["--train-on-inputs"] if train_on_inputs else []
    rows = tokenised(llama_tokenizer, make_settings(*flags)).train.rows
    assert len({len(row["input_ids"]) for row in rows}) > 2

    batch = training.collate(rows)
    assert "attention_mask" not in batch
    targets = (batch["labels"][:, 1:] != IGNORED_LABEL).sum()
    loss = model(**batch, num_items_in_batch=targets).loss
    loss.backward()
    packed = gradients(model)

    expected = 0.0
    for row in rows:
        pad = 7
        ids = torch.tensor([[0] * pad + row["input_ids"]])
        mask = torch.tensor([[0] * pad + [1] * len(row["input_ids"])])
        places = (mask.cumsum(-1) - 1).clamp(min=0)
        logits = model(input_ids=ids, attention_mask=mask, position_ids=places).logits[0, pad:-1]
        wanted = torch.tensor(row["labels"][1:])
        one = torch.nn.functional.cross_entropy(logits, wanted, ignore_index=IGNORED_LABEL, reduction="sum") / targets
        one.backward()
        expected += one.item()
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    reference = gradients(model)
    assert reference.keys() == packed.keys()
    for name, gradient in reference.items():
        assert (packed[name] - gradient).norm() <= 1e-5 * gradient.norm(), name


def test_a_quantised_model_still_learns_after_an_evaluation(llama_folder, llama_tokenizer, make_settings):
    """On a CPU with AVX512_BF16, bitsandbytes 0.50 loses the gradient at the first evaluation unless it is kept from it."""
    settings = make_settings("--lora-dropout", "0")
    model = backend.load_base(hub.find_base_model(str(llama_folder)), settings, CPU, training=True)
    model = backend.wrap_with_adapter(model, settings)
    batch = training.collate(tokenised(llama_tokenizer, settings).train.rows)

    def train() -> dict[str, torch.Tensor]:
        model.train()
        model(**batch).loss.backward()
        return gradients(model)

    before = train()
    model.eval()
    with torch.no_grad():
        model(**batch)
    after = train()
    assert sum(gradient.norm() for gradient in before.values()) > 0
    for name, gradient in before.items():
        torch.testing.assert_close(after[name], gradient, msg=name)


@pytest.fixture
def make_trainer(llama_folder, llama_tokenizer, make_settings):
    def make(*flags):
        settings = make_settings(*flags)
        Path(settings.CHECKPOINT_DIR).mkdir(parents=True, exist_ok=True)
        base = hub.find_base_model(str(llama_folder))
        model = backend.wrap_with_adapter(backend.load_base(base, settings, CPU, training=True), settings)
        return training.SqlTrainer(model, settings, CPU, base, {}, tokenised(llama_tokenizer, settings))

    return make


def test_the_arguments_are_the_settings(make_settings):
    settings = make_settings("--max-steps", "9", "--warmup-steps", "3", "--learning-rate", "0.001", "--seed", "7")
    arguments = training.training_arguments(settings, CPU)
    assert (arguments.max_steps, arguments.warmup_steps, arguments.learning_rate, arguments.seed) == (9, 3, 0.001, 7)
    assert arguments.lr_scheduler_type == "cosine"
    assert not arguments.bf16
    assert not arguments.fp16
    assert arguments.n_gpu <= 1


def test_batches_are_of_like_length_in_no_order_of_length():
    torch.manual_seed(0)
    lengths = [5 + (i * 37) % 100 for i in range(203)]
    sampler = training.ShuffledLengthGroups(4, [{"input_ids": [0] * length} for length in lengths])
    order = list(sampler)
    assert sorted(order) == list(range(203))
    batches = [[lengths[i] for i in order[start : start + 4]] for start in range(0, 203, 4)]
    assert max(batches[0]) == max(lengths)  # so that a lack of memory shows at once
    assert sum(max(batch) - min(batch) for batch in batches) / len(batches) < 10
    heads = [batch[0] for batch in batches]
    assert heads != sorted(heads, reverse=True)
    assert list(sampler) != order
    assert sorted(training.ShuffledLengthGroups(4, [{"input_ids": [0]}] * 3)) == [0, 1, 2]


def test_every_logged_step_is_one_json_object(make_trainer):
    trainer = make_trainer("--max-steps", "5", "--logging-steps", "2", "--eval-steps", "2", "--save-steps", "4")
    trainer.train()
    lines = [json.loads(line) for line in (Path(trainer.args.output_dir) / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 5]
    keys = {"step", "loss", "eval_loss", "learning_rate", "rows_per_second", "peak_memory_bytes"}
    assert all(line.keys() == keys for line in lines)
    assert lines[-1]["loss"] < lines[0]["loss"]
    end = trainer.run_log.metrics()
    assert end["best_eval_loss"] == min(line["eval_loss"] for line in lines)


def test_old_checkpoints_go_and_the_best_stays(make_trainer):
    trainer = make_trainer("--max-steps", "6", "--eval-steps", "1", "--save-steps", "1", "--save-total-limit", "2")
    trainer.train()
    kept = {path.name for path in Path(trainer.args.output_dir).glob("checkpoint-*")}
    assert len(kept) == 2
    assert f"checkpoint-{trainer.state.best_global_step}" in kept


def test_the_best_is_the_best_that_was_saved(make_trainer, monkeypatch):
    losses = iter([0.5, 2.0, 0.4, 1.0, 0.3, 1.5])
    evaluate = training.Trainer.evaluate
    monkeypatch.setattr(training.Trainer, "evaluate", lambda self, *a, **k: evaluate(self, *a, **k) | {"eval_loss": next(losses)})
    trainer = make_trainer("--max-steps", "6", "--eval-steps", "1", "--save-steps", "2", "--save-total-limit", "1")
    trainer.train()
    assert (trainer.state.best_global_step, trainer.state.best_metric) == (4, 1.0)
    assert Path(trainer.state.best_model_checkpoint).name == "checkpoint-4"
    kept = load_file(Path(trainer.state.best_model_checkpoint) / adapter.WEIGHTS)
    for name, tensor in trainer.model.named_parameters():
        if "lora_" in name:
            torch.testing.assert_close(kept[name.replace(".default", "")], tensor.detach())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_a_bad_loss_ends_the_run_before_anything_is_saved(make_trainer, value):
    trainer = make_trainer("--max-steps", "4", "--eval-steps", "4", "--save-steps", "4", "--logging-steps", "4")
    compute = trainer.compute_loss
    steps = iter(range(1, 5))
    trainer.compute_loss = lambda *a, **k: compute(*a, **k) * (value if next(steps) == 3 else 1.0)
    with pytest.raises(UserError, match="at step 3.*--learning-rate"):
        trainer.train()
    assert not list(Path(trainer.args.output_dir).glob("checkpoint-*"))


def test_weights_gone_bad_are_found_by_the_evaluation_before_the_save(make_trainer):
    trainer = make_trainer("--max-steps", "2", "--eval-steps", "2", "--save-steps", "2")
    step = trainer.training_step

    def poisoned(model, *rest):
        loss = step(model, *rest)
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.fill_(float("nan"))
        return loss

    trainer.training_step = poisoned
    trainer.check_losses = lambda: None  # the loss of the step itself was good
    with pytest.raises(UserError, match="evaluation loss is nan"):
        trainer.train()
    assert not list(Path(trainer.args.output_dir).glob("checkpoint-*"))


def test_a_tracker_that_is_not_installed(monkeypatch):
    training.check_tracker("none")
    monkeypatch.setattr(training.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="--report-to.*trackio.*pip install"):
        training.check_tracker("trackio")
