"""BACKEND bigdl. What needs bigdl-llm or ipex-llm is run by `make test-bigdl`, in their own environment."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import patience
import pytest
import torch
from safetensors.torch import load_file

import config
from sqlora.data import dataset, tokenise
from sqlora.model import adapter, base_models, bigdl, loading
from sqlora.model.transformers_compat import LEGACY
from sqlora.prompt import encoding
from sqlora.settings.command_line import load_settings
from sqlora.settings.settings import Settings
from sqlora.storage import checkpoints
from sqlora.system.errors import UserError
from sqlora.training import sql_trainer
from sqlora.training.packing import packed_batches, packed_loss, plan

ROOT = Path(__file__).parents[2]
DEFAULT_PYTHON = os.environ.get("SQLORA_DEFAULT_PYTHON")  # of requirements.txt's environment
BIGDL = ("--backend", "bigdl", "--low-bit", "sym_int4")
TINY = config.PRESETS["tiny"]

needs_package = pytest.mark.skipif(not LEGACY, reason="needs bigdl-llm or ipex-llm: make test-bigdl")
needs_both = pytest.mark.skipif(not (LEGACY and DEFAULT_PYTHON), reason="needs both environments: make test-bigdl")


@pytest.mark.parametrize("low_bit", ["nf4", "fp4", "asym_int4", "sym_int5", "asym_int5", "sym_int8"])
def test_types_that_do_not_train_on_a_cpu_are_refused_with_the_remedy(low_bit):
    with pytest.raises(
        UserError, match=rf"--low-bit\) is '{low_bit}', and BACKEND is bigdl on cpu.*set it to sym_int4 or none"
    ):
        bigdl.check_low_bit(low_bit, "cpu")


def test_types_that_train():
    bigdl.check_low_bit("sym_int4", "cpu")
    bigdl.check_low_bit("nf4", "xpu")
    with pytest.raises(UserError, match="nf4 or sym_int4"):
        bigdl.check_low_bit("asym_int4", "xpu")


def test_a_backend_of_another_environment_is_refused_with_its_requirements(make_settings):
    other, file = ("bitsandbytes", "requirements.txt") if LEGACY else ("bigdl", "requirements/bigdl.txt")
    with pytest.raises(UserError, match=f"--backend.*'{other}'.*{file}"):
        loading.choose_device(make_settings("--backend", other))


@pytest.mark.skipif(LEGACY, reason="a type of the other backend")
def test_bigdls_types_are_refused_by_bitsandbytes(make_settings):
    with pytest.raises(UserError, match="--low-bit.*'sym_int4'.*nf4 or fp4 or none"):
        loading.choose_device(make_settings("--low-bit", "sym_int4"))


TEXTS = [
    "SELECT a  FROM t\nWHERE b <> 'it''s </s>'",
    "naïve 日本 🙂",
    "<s> <|endoftext|> ▁<PRE> 1234.50",
    encoding.PROBE,
]


@pytest.mark.skipif(LEGACY, reason="compares with transformers 5")
@pytest.mark.parametrize("kind", ["llama", "codellama", "openllama", "mistral"])
def test_a_tokenizer_of_today_in_the_words_of_an_older_version_gives_the_same_ids(request, kind):
    folder = request.getfixturevalue(f"{kind}_folder")
    today, older = loading.load_tokenizer(base_models.find_base_model(str(folder))), bigdl.load_tokenizer(folder)
    for encode in (
        encoding.encode_answers,
        lambda tokenizer, texts: encoding.encode_prompts(
            tokenizer, [{"question": text, "context": text} for text in texts]
        ),
    ):
        assert encode(older, TEXTS) == encode(today, TEXTS)
    assert adapter.tokenizer_hash(older) == adapter.tokenizer_hash(today)


def test_a_tokenizer_of_a_later_kind_is_reported(llama_folder, tmp_path):
    spec = json.loads((llama_folder / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec | {"pre_tokenizer": {"type": "Nonesuch"}}))
    with pytest.raises(ValueError, match="does not understand its tokenizer.json"):
        bigdl.load_tokenizer(tmp_path)
    with pytest.raises(ValueError, match="neither a tokenizer.json nor"):
        bigdl.load_tokenizer(tmp_path / "empty")


def write_config(folder: Path, **changes) -> Path:
    folder.mkdir(exist_ok=True)
    known = json.loads((Path(TINY["BASE_MODEL"]) / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(known | changes))
    return folder


@needs_package
def test_a_configuration_of_today_is_understood_or_refused(tmp_path):
    rope = {"rope_type": "default", "rope_theta": 1e6}
    assert bigdl.load_config(write_config(tmp_path, rope_parameters=rope)).rope_theta == 1e6
    found = bigdl.load_config(
        write_config(tmp_path, rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0})
    )
    assert found.rope_scaling == {"type": "linear", "factor": 2.0}
    base = base_models.find_base_model(str(tmp_path))
    for change, message in (
        ({"rope_parameters": rope | {"rope_type": "llama3"}}, "llama3"),
        ({"head_dim": 32}, "32 numbers"),
        ({"model_type": "nonesuch"}, "nonesuch"),
    ):
        write_config(tmp_path, **change)
        with pytest.raises(UserError, match=f"--base-model.*{message}"):
            loading.check_causal(base)


@pytest.fixture
def tiny(make_settings):
    """Settings of a short run on the demo's base, with further flags."""

    def make(*flags) -> Settings:
        small = (
            "--base-model",
            TINY["BASE_MODEL"],
            "--data-path",
            TINY["DATA_PATH"],
            "--lora-targets",
            "all-linear",
            "--learning-rate",
            "1e-3",
            "--warmup-steps",
            "2",
            "--logging-steps",
            "1",
            "--eval-steps",
            "4",
            "--save-steps",
            "4",
        )
        return make_settings(*BIGDL, *small, *flags)

    return make


def make_trainer(settings: Settings, rows: int = 200) -> sql_trainer.SqlTrainer:
    """What finetune.py makes, on the first rows."""
    Path(settings.CHECKPOINT_DIR).mkdir(parents=True, exist_ok=True)
    device = loading.choose_device(settings)
    base = base_models.find_base_model(settings.BASE_MODEL)
    form = plan.choose_plan(loading.check_causal(base), settings, device)
    tokenizer = loading.load_tokenizer(base)
    read = dataset.load_rows(settings.DATA_PATH, "DATA_PATH")[:rows]
    splits = tokenise.tokenise_splits(read[:-20], read[-20:], tokenizer, settings)
    torch.manual_seed(settings.SEED)
    model = loading.wrap_with_adapter(loading.load_base(base, settings.LOW_BIT, device, training=True), settings)
    fingerprint = adapter.make_fingerprint(base, tokenizer, settings, {})
    return sql_trainer.SqlTrainer(
        model, settings, device, base, fingerprint, splits, plan.prepare_model(model, form, device)
    )


def trained_weights(trainer) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters() if "lora_" in name}


@needs_package
@pytest.mark.parametrize("low_bit", ["asym_int4", "sym_int5", "asym_int5", "sym_int8"])
def test_the_refused_types_really_give_nan(tiny, low_bit):
    settings = replace(tiny(), LOW_BIT=low_bit)
    device = loading.choose_device(tiny())
    model, missing = bigdl.load_model(base_models.find_base_model(settings.BASE_MODEL), settings.LOW_BIT, device)
    assert missing == set()
    model = loading.wrap_with_adapter(model, settings).train()
    ids = torch.arange(4, 36)[None]
    assert torch.isnan(model(input_ids=ids, labels=ids).loss)


@needs_package
def test_the_loss_is_that_of_the_library_and_its_head_is_not_converted(tiny):
    trainer = make_trainer(tiny("--train-on-inputs", "--table-aliases", "keep"), rows=24)
    model = trainer.model.eval()
    assert type(model.get_base_model().lm_head) is torch.nn.Linear
    assert "LowBit" in type(model.get_base_model().model.layers[0].mlp.down_proj).__mro__[0].__name__
    row = trainer.train_dataset[0]
    (inputs,) = packed_batches.make_batches([row], "off", 10_000)
    ids = torch.tensor([row["input_ids"]])
    with torch.no_grad():
        ours = packed_loss.loss_sum(model, inputs, model.get_base_model()) / inputs["weights"].sum()
        theirs = model(input_ids=ids, labels=ids).loss
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@needs_package
def test_accumulated_batches_train_as_one(tiny):
    found = []
    for size, number in (("8", 1), ("4", 2)):
        flags = ("--lora-dropout", "0", "--batch-size", size, "--gradient-accumulation-steps", str(number))
        trainer = make_trainer(tiny(*flags), rows=40)
        assert trainer.args.per_device_train_batch_size == 8
        inputs = trainer.collate(trainer.train_dataset[:8])
        assert len(inputs["batches"]) == number
        loss = trainer.training_step(trainer.model, inputs)
        found.append(
            {"loss": loss}
            | {
                name: parameter.grad
                for name, parameter in trainer.model.named_parameters()
                if parameter.grad is not None
            }
        )
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-5)


@needs_package
def test_what_this_backend_cannot_do_switches_itself_off_and_says_so(tiny, capsys):
    settings = tiny("--packing", "tree", "--compile", "on")
    form = plan.choose_plan(None, settings, loading.choose_device(settings))
    assert (form.name, form.compiled) == ("off", False)
    said = capsys.readouterr().out
    assert "PACKING is tree" in said
    assert "COMPILE is on" in said
    assert len(said.splitlines()) == 2


@needs_package
def test_a_run_that_is_resumed_from_a_checkpoint_ends_as_one_that_was_not_interrupted(tiny, tmp_path):
    straight = make_trainer(
        tiny("--max-steps", "8", "--lora-dropout", "0.1", "--checkpoint-dir", str(tmp_path / "straight"))
    )
    straight.train()
    checkpoint = tmp_path / "straight" / "checkpoint-4"
    pickles = [path for path in checkpoint.iterdir() if path.suffix in (".pt", ".pth")]
    assert {path.name for path in pickles} == {"optimizer.pt", "scheduler.pt", "rng_state.pth"}
    for path in pickles:
        torch.load(path, weights_only=True)  # with nothing allowed beyond
    resumed = make_trainer(
        tiny("--max-steps", "8", "--lora-dropout", "0.1", "--checkpoint-dir", str(tmp_path / "resumed"))
    )
    shutil.copytree(checkpoint, tmp_path / "resumed" / checkpoint.name)
    shutil.copy(tmp_path / "straight" / "metrics.jsonl", tmp_path / "resumed")
    resumed.train(tmp_path / "resumed" / checkpoint.name)
    assert resumed.state.global_step == 8
    expected = trained_weights(straight)
    assert all(torch.equal(weight, expected[name]) for name, weight in trained_weights(resumed).items())


@needs_package
def test_an_adapter_that_this_peft_would_load_wrong_is_refused(tiny, tmp_path):
    settings = tiny()
    base = base_models.find_base_model(settings.BASE_MODEL)
    model = loading.load_base(base, settings.LOW_BIT, loading.choose_device(settings), training=False)
    adapter.write_adapter(loading.wrap_with_adapter(model, settings), tmp_path, base)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"lora_bias": True, "peft_version": "0.21.2"}))
    model = loading.load_base(base, settings.LOW_BIT, loading.choose_device(settings), training=False)
    with pytest.raises(UserError, match="lora_bias"):
        adapter.load_adapter(model, tmp_path)


def run(python, script: str, folder: Path, *flags) -> subprocess.CompletedProcess:
    """A script on the tiny preset, whose outputs go to `folder`."""
    done = subprocess.run(
        [
            str(python),
            str(ROOT / script),
            "--preset",
            "tiny",
            "--checkpoint-dir",
            str(folder / "lora_models"),
            "--model-path",
            str(folder / "saved_model"),
            *flags,
        ],
        cwd=folder,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=patience.SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def exact_match(python, folder: Path, *flags) -> float:
    """Share of the 200 test questions, in %."""
    run(python, "generate.py", folder, "--evaluate", *flags)
    metrics = json.loads((folder / "lora_models" / "evaluation.json").read_text())["metrics"]
    (answered,) = metrics.values()
    return 100 * answered["exact_match"]["share"]


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """The demo's fine-tuning, interrupted after checkpoint 20, and resumed to its end."""
    folder = tmp_path_factory.mktemp("interrupted")
    outputs = ("--checkpoint-dir", str(folder / "lora_models"), "--model-path", str(folder / "saved_model"))
    flags = ["--preset", "tiny", *BIGDL, "--save-steps", "10", *outputs]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "finetune.py"), *flags], cwd=folder, stdout=subprocess.DEVNULL
    )
    checkpoint = folder / "lora_models" / "checkpoint-20"
    deadline = time.monotonic() + patience.SECONDS
    try:
        while not checkpoints.is_whole(checkpoint):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=patience.SECONDS) == 130
    finally:
        process.kill()
    before = [json.loads(line) for line in (folder / "lora_models" / "metrics.jsonl").read_text().splitlines()]
    resumed = [sys.executable, str(ROOT / "finetune.py"), *BIGDL[:2], *outputs, "--resume"]
    subprocess.run(resumed, cwd=folder, check=True, timeout=patience.SECONDS, stdout=subprocess.DEVNULL)
    return folder, before


@pytest.fixture(scope="module")
def with_bigdl(interrupted):
    """What the adapter of this backend answers with this backend."""
    return exact_match(sys.executable, interrupted[0], "--model", "adapter", *BIGDL)


@needs_package
def test_the_loss_falls_through_an_interruption(interrupted):
    folder, before = interrupted
    after = checkpoints.read_fingerprint(folder / "saved_model")["metrics"]
    assert before[0]["loss"] > 0.5
    assert 0 < after["best_eval_loss"] < before[-1]["loss"]
    assert checkpoints.read_fingerprint(folder / "saved_model")["quantisation"] == "sym_int4"


@needs_package
def test_it_answers(with_bigdl):
    assert with_bigdl > 80


@pytest.mark.slow
@needs_both
@pytest.mark.parametrize("flags", [("--low-bit", "nf4"), ("--low-bit", "none", "--dtype", "bfloat16")])
def test_its_adapter_answers_as_well_in_the_default_environment(interrupted, with_bigdl, flags):
    there = exact_match(DEFAULT_PYTHON, interrupted[0], "--model", "adapter", *flags)
    assert abs(there - with_bigdl) <= 3, (there, with_bigdl)


@pytest.mark.slow
@needs_both
def test_merged_into_the_unquantised_base_it_answers_as_well_there(interrupted, with_bigdl):
    folder = interrupted[0]
    settings = load_settings(["--preset", "tiny", *BIGDL[:2], "--low-bit", "none", "--dtype", "float32"], "")
    base = base_models.find_base_model(settings.BASE_MODEL)
    model = loading.load_base(base, settings.LOW_BIT, loading.choose_device(settings), training=False)
    merged = adapter.load_adapter(model, folder / "saved_model").merge_and_unload()
    merged.save_pretrained(folder / "merged", safe_serialization=True)
    loading.load_tokenizer(base).save_pretrained(folder / "merged")
    names = load_file(folder / "merged" / "model.safetensors")
    assert not any("lora" in name for name in names)
    there = exact_match(
        DEFAULT_PYTHON, folder, "--model", "base", "--base-model", str(folder / "merged"), "--low-bit", "none"
    )
    assert abs(there - with_bigdl) <= 3, (there, with_bigdl)


@pytest.mark.slow
@needs_both
def test_an_adapter_of_the_default_environment_answers_as_well_here(tmp_path):
    run(DEFAULT_PYTHON, "finetune.py", tmp_path)
    there = exact_match(DEFAULT_PYTHON, tmp_path, "--model", "adapter", "--low-bit", "none")
    here = exact_match(sys.executable, tmp_path, "--model", "adapter", *BIGDL)
    assert abs(there - here) <= 3, (there, here)
