"""The training step: the same in every form, alive after an evaluation, and ended by a bad loss."""

import json
from pathlib import Path

import pytest
import torch
from small_data import tokenised

from sqlora.model import base_models, device, loading
from sqlora.storage import checkpoints
from sqlora.system.errors import UserError
from sqlora.training.packing import packed_batches, packed_loss

CPU = device.choose_device("cpu", "float32")


def gradients(model) -> dict[str, torch.Tensor]:
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()
    return found


def test_a_quantised_model_still_learns_after_an_evaluation(llama_folder, llama_tokenizer, make_settings):
    """On a CPU with AVX512_BF16, bitsandbytes 0.50 loses the gradient at the first evaluation unless it is kept from
    it.
    """
    settings = make_settings("--lora-dropout", "0")
    model = loading.load_base(base_models.find_base_model(str(llama_folder)), settings.LOW_BIT, CPU, training=True)
    model = loading.wrap_with_adapter(model, settings)
    (inputs,) = packed_batches.make_batches(tokenised(llama_tokenizer, settings).train.rows, "off", 10_000)

    def train() -> dict[str, torch.Tensor]:
        model.train()
        packed_loss.loss_sum(model, inputs, model.get_base_model()).backward()
        return gradients(model)

    before = train()
    model.eval()
    with torch.no_grad():
        packed_loss.loss_sum(model, inputs, model.get_base_model())
    after = train()
    assert sum(gradient.norm() for gradient in before.values()) > 0
    for name, gradient in before.items():
        torch.testing.assert_close(after[name], gradient, msg=name)


@pytest.mark.parametrize(
    "flags",
    [
        ("--train-on-inputs",),
        pytest.param(("--prompt-order", "schema_first"), marks=pytest.mark.slow),
        pytest.param((), marks=pytest.mark.slow),
        pytest.param(("--gradient-checkpointing",), marks=pytest.mark.slow),
    ],
)
def test_every_form_of_packing_trains_the_same_weights(make_trainer, flags):
    """A run of several passes a step, with evaluations on the way; only the rows of a step count, not their factors."""
    common = (
        "--max-steps",
        "3",
        "--eval-steps",
        "3",
        "--save-steps",
        "3",
        "--logging-steps",
        "1",
        "--lora-dropout",
        "0",
        "--warmup-steps",
        "0",
        "--learning-rate",
        "0.01",
        "--batch-size",
        "3",
        "--gradient-accumulation-steps",
        "2",
        "--low-bit",
        "none",
        *flags,
    )
    runs = {}
    for form in (
        ("off",),
        ("prefix",),
        ("prefix", "--max-tokens-per-pass", "150"),
        ("tree",),
        ("tree", "--max-tokens-per-pass", "150"),
        ("off", "--batch-size", "6", "--gradient-accumulation-steps", "1"),
    ):
        torch.manual_seed(0)
        trainer = make_trainer(*common, "--packing", *form)
        trainer._get_train_sampler = lambda *_: range(8)  # the same rows in the same order
        trainer.train()
        entries = [
            json.loads(line) for line in (Path(trainer.args.output_dir) / "metrics.jsonl").read_text().splitlines()
        ]
        losses = [[entry["loss"] for entry in entries], entries[-1]["eval_loss"]]
        weights = torch.cat([p.detach().flatten() for n, p in trainer.model.named_parameters() if "lora_" in n])
        runs[form] = losses, weights
        assert trainer.rows_seen == 6 + 2 + 6
    (losses, weights), *others = runs.values()
    for other_losses, other_weights in others:
        assert other_losses[0] == pytest.approx(losses[0], abs=1e-5)
        assert other_losses[1] == pytest.approx(losses[1], abs=1e-5)
        assert (other_weights - weights).norm() < 1e-3 * weights.norm()


def adapter_weights(trainer):
    return torch.cat([p.detach().flatten() for name, p in trainer.model.named_parameters() if "lora_" in name])


def test_a_lack_of_memory_is_met_with_smaller_passes_of_the_same_rows(make_trainer, monkeypatch, capsys):
    """A device that holds 200 tokens at a time, and fails in the middle of a backward pass, when some gradients are
    there.
    """
    flags = (
        "--max-steps",
        "3",
        "--eval-steps",
        "3",
        "--save-steps",
        "3",
        "--logging-steps",
        "1",
        "--lora-dropout",
        "0",
        "--learning-rate",
        "0.01",
        "--warmup-steps",
        "0",
        "--gradient-accumulation-steps",
        "2",
        "--batch-size",
        "4",
        "--low-bit",
        "none",
    )
    torch.manual_seed(0)
    whole = make_trainer(*flags)
    whole.train()
    compute = packed_loss.loss_sum

    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(context, loss):
            return loss.clone()

        @staticmethod
        def backward(context, gradient):
            raise torch.OutOfMemoryError("no memory")

    def loss_sum(model, inputs, base):
        loss = compute(model, inputs, base)
        if inputs["input_ids"].numel() <= 200:
            return loss
        if not torch.is_grad_enabled():
            raise torch.OutOfMemoryError("no memory")
        loss.backward(retain_graph=True)
        return Fails.apply(loss)

    monkeypatch.setattr(packed_loss, "loss_sum", loss_sum)
    torch.manual_seed(0)
    small = make_trainer(*flags)
    capsys.readouterr()
    small.train()
    printed = [line for line in capsys.readouterr().out.splitlines() if "did not fit" in line]
    assert 1 <= len(printed) <= 3
    assert small.most_tokens <= 200
    assert small.rows_seen == whole.rows_seen
    assert (adapter_weights(small) - adapter_weights(whole)).norm() < 1e-3 * adapter_weights(whole).norm()


def test_a_row_that_does_not_fit_ends_the_run(make_trainer, monkeypatch):
    def loss_sum(*_):
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(packed_loss, "loss_sum", loss_sum)
    with pytest.raises(UserError, match="does not fit into the device's memory.*--low-bit"):
        make_trainer("--max-steps", "2", "--eval-steps", "2", "--save-steps", "2").train()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_a_bad_loss_ends_the_run_before_anything_is_saved(make_trainer, monkeypatch, value):
    trainer = make_trainer("--max-steps", "4", "--eval-steps", "4", "--save-steps", "4", "--logging-steps", "4")
    compute, steps = packed_loss.loss_sum, iter(range(1, 5))
    monkeypatch.setattr(packed_loss, "loss_sum", lambda *a: compute(*a) * (value if next(steps) == 3 else 1.0))
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
    trainer.stopping.check_losses = lambda: trainer.unlogged.append((2, 1.0))  # the loss of the step itself was good
    with pytest.raises(UserError, match="evaluation loss is nan"):
        trainer.train()
    assert not list(Path(trainer.args.output_dir).glob("checkpoint-*"))


def test_a_device_that_fails_ends_the_run_with_its_checkpoints_whole(make_trainer, monkeypatch):
    trainer = make_trainer("--max-steps", "3", "--save-steps", "1", "--eval-steps", "1", "--logging-steps", "1")
    compute = packed_loss.loss_sum

    def fail(*arguments):
        if trainer.state.global_step == 2 and torch.is_grad_enabled():
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nmore", 700)
        return compute(*arguments)

    monkeypatch.setattr(packed_loss, "loss_sum", fail)
    with pytest.raises(UserError, match="the device failed after step 2: .*illegal memory access.*--resume"):
        trainer.train()
    newest = checkpoints.newest(Path(trainer.args.output_dir))
    assert newest.name == "checkpoint-2"
    monkeypatch.undo()
    again = make_trainer("--max-steps", "3", "--save-steps", "1", "--eval-steps", "1")
    again.train(newest)
    assert again.state.global_step == 3


def test_a_bug_is_not_taken_for_a_failing_device(make_trainer, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(packed_loss, "loss_sum", fail)
    with pytest.raises(RuntimeError, match="shapes"):
        make_trainer("--max-steps", "1").train()
