"""Models of many families: each trains and answers as it does in plain transformers, or is refused in a line."""

import json

import families
import pytest
import snapshots
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

import finetune
import generate
from sqlora.generation import answer_writer
from sqlora.generation.agreement import check_answering
from sqlora.model import base_models, device, loading
from sqlora.prompt import encoding, template
from sqlora.system.errors import UserError
from sqlora.training.agreement import check_training
from sqlora.training.packing import packed_batches, packed_loss, plan

CPU = device.choose_device("cpu", "float32")
ROWS = [
    {
        "question": f"How many {'are there ' * (i % 4)}{i}?",
        "context": f"CREATE TABLE t{i} (a INTEGER)",
        "answer": f"SELECT {i} FROM t{i}",
    }
    for i in range(12)
]
SHORT = (
    "--max-steps",
    "1",
    "--eval-steps",
    "1",
    "--save-steps",
    "1",
    "--logging-steps",
    "1",
    "--warmup-steps",
    "0",
    "--validation-rows",
    "4",
    "--max-new-tokens",
    "8",
    "--low-bit",
    "none",
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    for name, rows in (("rows", ROWS), ("few", ROWS[:5])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def run(files, tmp_path, make_settings):
    """finetune.py on a folder, with further flags; then generate.py, whose answers come back."""

    def go(folder, *flags, trains: bool = True) -> list[dict]:
        output = tmp_path / "answers.jsonl"
        settings = make_settings(
            "--base-model",
            str(folder),
            "--data-path",
            str(files / "rows.jsonl"),
            "--test-data",
            str(files / "few.jsonl"),
            *SHORT,
            *flags,
            "--output",
            str(output),
        )
        if trains:
            finetune.main(settings)
        generate.main(settings)
        return [json.loads(line) for line in output.read_text().splitlines()]

    return go


def alone(folder, rows, ends=(2,), new: int = 8) -> list[str]:
    """What transformers' generate answers, one row at a time, with a model that is loaded anew for each."""
    tokenizer, found = AutoTokenizer.from_pretrained(folder), []
    way = GenerationConfig(max_new_tokens=new, do_sample=False, eos_token_id=list(ends), pad_token_id=2)
    for ids in encoding.encode_prompts(tokenizer, rows):
        model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
        answer = model.generate(torch.tensor([ids]), generation_config=way)[0, len(ids) :].tolist()
        answer = next((answer[:place] for place, token in enumerate(answer) if token in ends), answer)
        found.append(template.extract_sql(encoding.decode_answer(tokenizer, answer)))
    return found


REFUSED = {  # with all-linear and a dropout
    **dict.fromkeys(("mixtral", "qwen3_moe", "olmoe", "deepseek_v3"), "lora_dropout"),
    **dict.fromkeys(("phimoe", "llama4_text"), "cannot be trained here.*LORA_TARGETS"),
}


SCRIPTS = ("gpt2", "bloom", "mamba", "mpt", "gemma2", "gpt_oss")  # whose lengths, attention or SDPA are missing


@pytest.mark.parametrize("kind", SCRIPTS)
def test_scripts_on_other_families(kind, run, tmp_path):
    folder = families.make_folder(kind, tmp_path / "model")
    answers = run(folder, "--lora-targets", "all-linear")
    assert [row["base"] for row in answers] == alone(folder, ROWS[:5])


@pytest.mark.parametrize("kind", [kind for kind in families.OTHERS if kind not in SCRIPTS])
def test_other_families_train_and_answer_as_in_transformers(kind, tmp_path, make_settings):
    folder = families.make_folder(kind, tmp_path)
    targets = "all-linear" if kind not in REFUSED else "o_proj"
    model, form = prepared(folder, make_settings, "--lora-targets", targets)
    check_training(model, form, plan.trial_rows(model, form))
    writer = answer_writer.SqlWriter(
        model, AutoTokenizer.from_pretrained(folder), make_settings("--max-new-tokens", "5")
    )
    assert writer.write(ROWS[:3]) == alone(folder, ROWS[:3], new=5)


def prepared(folder, make_settings, *flags):
    settings = make_settings("--low-bit", "none", *flags)
    model = loading.load_base(base_models.find_base_model(str(folder)), settings.LOW_BIT, CPU, training=True)
    model = loading.wrap_with_adapter(model, settings)
    return model, plan.prepare_model(model, plan.choose_plan(model.config, settings, CPU), CPU)


def head_alone(model, inputs, base):
    """A loss from the head by itself, which knows nothing of what the model does to its logits."""
    hidden = []
    with base.get_decoder().register_forward_hook(lambda module, given, output: hidden.append(output[0])):
        model(
            input_ids=inputs["input_ids"],
            position_ids=inputs.get("position_ids"),
            attention_mask=inputs.get("attention_mask"),
            use_cache=False,
        )
    logits = base.get_output_embeddings()(hidden[0].flatten(0, 1)[inputs["target_indices"]])
    return (torch.nn.functional.cross_entropy(logits, inputs["targets"], reduction="none") * inputs["weights"]).sum()


@pytest.mark.parametrize("kind", ["granite", "cohere", "gemma2"])
def test_a_loss_that_is_not_the_model_s_ends_the_run(kind, tmp_path, make_settings, monkeypatch):
    model, form = prepared(families.make_folder(kind, tmp_path), make_settings)
    check_training(model, form, plan.trial_rows(model, form))
    monkeypatch.setattr(packed_loss, "loss_sum", head_alone)
    with pytest.raises(
        UserError, match=rf"{kind} model cannot be trained here: the summed loss of two rows is [\d.]+, and in"
    ):
        check_training(model, form, plan.trial_rows(model, form))


def test_rows_that_see_one_another_end_the_run(llama_folder, make_settings, monkeypatch):
    model, form = prepared(llama_folder, make_settings, "--packing", "tree")
    check_training(model, form, plan.trial_rows(model, form))
    monkeypatch.setattr(
        packed_batches, "tree_mask", lambda ends: torch.ones(1, 1, len(ends), len(ends), dtype=torch.bool).tril()
    )
    with pytest.raises(UserError, match="cannot be trained here"):
        check_training(model, form, plan.trial_rows(model, form))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("low_bit", ["none", "nf4"])
def test_rounding_is_no_difference(llama_folder, make_settings, dtype, low_bit):
    cpu, settings = device.choose_device("cpu", dtype), make_settings("--low-bit", low_bit, "--dtype", dtype)
    model = loading.load_base(base_models.find_base_model(str(llama_folder)), settings.LOW_BIT, cpu, training=True)
    check_answering(model, list(range(2, 42)))
    model = loading.wrap_with_adapter(model, settings)
    form = plan.prepare_model(model, plan.choose_plan(model.config, settings, cpu), cpu)
    check_training(model, form, plan.trial_rows(model, form))


def test_the_check_leaves_nothing_behind(llama_folder, make_settings):
    model, form = prepared(llama_folder, make_settings)
    model.train()
    before, attention = torch.get_rng_state(), model.config._attn_implementation
    check_training(model, form, plan.trial_rows(model, form))
    assert torch.equal(torch.get_rng_state(), before)
    assert model.config._attn_implementation == attention
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_compiled_layers_are_compared_as_they_are(llama_folder, make_settings, monkeypatch):
    from torch._dynamo.testing import CompileCounter

    counter, real = CompileCounter(), torch.compile
    monkeypatch.setattr(torch, "compile", lambda *given, **how: real(*given, **how | {"backend": counter}))
    model, form = prepared(llama_folder, make_settings, "--compile", "on")
    assert form.compiled
    compiled = counter.frame_count
    check_training(model, form, plan.trial_rows(model, form))
    assert counter.frame_count == compiled  # nothing is compiled for it


def test_an_encoder_is_refused(run, tmp_path):
    folder = families.make_folder("bert", tmp_path / "model", is_decoder=False)
    with pytest.raises(UserError, match="bert model cannot be trained here"):
        run(folder, "--lora-targets", "all-linear")


ROPES = {
    "dynamic": (
        "llama",
        {"rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}, "max_position_embeddings": 512},
    ),
    # prompts have 152 to 164 tokens
    "longrope": (
        "phi3",
        {
            "original_max_position_embeddings": 162,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 1e4,
                "original_max_position_embeddings": 162,
                "short_factor": [1.0] * 4,
                "long_factor": [4.0, 8.0, 16.0, 32.0],
            },
        },
    ),
}


@pytest.mark.parametrize("rope", ROPES)
def test_ropes_that_change_with_the_length(rope, run, tmp_path, capsys):
    kind, changes = ROPES[rope]
    folder = families.make_folder(kind, tmp_path / "model", **changes)
    answers = run(folder, "--lora-targets", "all-linear")
    printed = capsys.readouterr().out
    assert f"rotary embeddings change with the length of a row ({rope})" in printed
    assert printed.count("answers are written by transformers' generate") == 1
    assert [row["base"] for row in answers] == alone(folder, ROWS[:5])


def test_several_eos_tokens_end_an_answer(run, tmp_path, capsys):
    for kind in ("llama", "gpt2"):  # in slots, and in transformers' generate
        folder = families.make_folder(kind, tmp_path / kind)
        ends = [2, *range(100, 200)]
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
        answers = run(folder, trains=False)
        assert [row["base"] for row in answers] == alone(folder, ROWS[:5], ends) != alone(folder, ROWS[:5])


def test_a_pad_token_without_an_embedding_is_not_used(run, tmp_path):
    folder = families.make_folder("gpt2", tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    assert tokenizer.pad_token_id == 400
    tokenizer.save_pretrained(folder)
    assert [row["base"] for row in run(folder, "--lora-targets", "all-linear")] == alone(folder, ROWS[:5])


def test_a_tokenizer_larger_than_the_embeddings_is_refused(run, tmp_path):
    folder = families.make_folder("llama", tmp_path / "model", vocab_size=390)
    for trains in (True, False):
        with pytest.raises(UserError, match="tokenizer has tokens up to 399.*embeddings for only 390"):
            run(folder, trains=trains)


def test_a_config_that_does_not_name_its_architecture(run, tmp_path):
    folder = families.make_folder("llama", tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    del config["architectures"]
    (folder / "config.json").write_text(json.dumps(config))
    assert [row["base"] for row in run(folder)] == alone(folder, ROWS[:5])
    bert = snapshots.make_bert(tmp_path / "bert")
    (bert / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": 400}))
    with pytest.raises(UserError, match="a bert, which is not a causal language model"):
        run(bert)
