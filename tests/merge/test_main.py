"""The merged model: an ordinary transformers folder that answers as base and adapter did, and what keeps one from being
made.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoTokenizer

from sqlora.data import dataset
from sqlora.generation import answer_writer
from sqlora.merge import __main__ as merge
from sqlora.model import adapter, base_models, device, loading
from sqlora.prompt import encoding, template
from sqlora.settings.command_line import load_settings
from sqlora.storage import checkpoints

ROOT = Path(__file__).parents[2]
CPU = device.choose_device("cpu", "float32")


@pytest.fixture(scope="module")
def answers(demo_run):
    """What base and adapter answer to the test's questions, as generate.py does it."""
    settings = load_settings([*demo_run, "--model", "adapter", "--constrain", "off"], "")
    base = base_models.find_base_model(settings.BASE_MODEL)
    model = adapter.load_adapter(
        loading.load_base(base, settings.LOW_BIT, CPU, training=False), adapter.find_adapter(settings)
    )
    return answer_writer.SqlWriter(model, loading.load_tokenizer(base), settings).write(dataset.load_samples(settings))


@pytest.fixture(scope="module")
def merged(demo_run, tmp_path_factory):
    """The merged model in float32, and what the command said."""
    folder = tmp_path_factory.mktemp("merged") / "model"
    command = [sys.executable, "-m", "sqlora.merge", *demo_run, "--output", str(folder), "--dtype", "fp32"]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"COLUMNS": "120"}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return folder, done.stdout


PLAIN = """
import json, sys
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
prompts = tokenizer(json.load(sys.stdin), return_tensors="pt", padding=True)
output = model.generate(**prompts)[:, prompts["input_ids"].shape[1]:]
print(json.dumps(tokenizer.batch_decode(output, skip_special_tokens=True)))
assert not any(name.startswith(("peft", "bitsandbytes", "sqlora")) for name in sys.modules)
"""


def test_plain_transformers_gives_the_same_answers(demo_run, merged, answers, tmp_path):
    rows = dataset.load_samples(load_settings(demo_run, ""))
    prompts = [template.build_prompt(row["question"], row["context"]) for row in rows]
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, merged[0]],
        cwd=tmp_path,
        input=json.dumps(prompts),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert [template.extract_sql(text) for text in json.loads(done.stdout)] == answers
    assert sum(answer.startswith("SELECT") for answer in answers) >= 6  # it has learned something


def test_the_drift_is_reported(merged):
    folder, said = merged
    card = (folder / "README.md").read_text()
    for words in ("merged into", "the nf4 weights of training, dequantised to float32", "same likeliest token"):
        assert words in said
        assert words in card
    assert "100.00%" in said
    assert "differs by 0.00000 in the mean" in said  # in float32, merging is exact
    assert str(folder.parent) not in card
    assert 'library_name: "transformers"' in card


def test_the_folder_is_an_ordinary_one(merged):
    folder = merged[0]
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    config = json.loads((folder / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"]
    base = AutoConfig.from_pretrained(ROOT / "demo" / "tiny-llama")
    assert AutoConfig.from_pretrained(folder).rope_parameters == base.rope_parameters
    tokenizer = AutoTokenizer.from_pretrained(folder)
    generation_config = json.loads((folder / "generation_config.json").read_text())
    assert generation_config["eos_token_id"] == tokenizer.eos_token_id == 2
    assert generation_config["bos_token_id"] == tokenizer.bos_token_id == 1
    assert generation_config["pad_token_id"] == tokenizer.pad_token_id
    ids = encoding.encode_prompt(tokenizer, "How many?", "CREATE TABLE t (a INTEGER)")
    assert tokenizer(template.build_prompt("How many?", "CREATE TABLE t (a INTEGER)"))["input_ids"] == ids
    assert ids.count(tokenizer.bos_token_id) == 1
    assert not any(name.endswith(("absmax", "lora_A")) for name in load_file(folder / "model.safetensors"))


def test_the_code_on_the_card_runs(merged, monkeypatch, capsys):
    code = (merged[0] / "README.md").read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(merged[0])
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("SELECT ")


def test_in_bfloat16_into_the_weights_of_training(demo_run, tmp_path, capsys):
    merge.main([*demo_run, "--output", str(tmp_path / "new" / "model"), "--dtype", "bf16"])
    said = capsys.readouterr().out
    assert "the nf4 weights of training, dequantised to bfloat16" in said
    assert 80 < float(said.split("same likeliest token")[1].split("%")[0]) <= 100
    assert error(demo_run, tmp_path / "new" / "model") > 2.0**-7  # four bits were not undone


def error(demo_run, folder):
    """How far a weight of a merged bfloat16 model is from the unquantised base and its adapter, of the largest
    weight.
    """
    merged, base, lora = (
        load_file(file)
        for file in (
            folder / "model.safetensors",
            ROOT / "demo" / "tiny-llama" / "model.safetensors",
            adapter.find_adapter(load_settings(demo_run, "")) / checkpoints.WEIGHTS,
        )
    )
    assert {weight.dtype for weight in merged.values()} == {torch.bfloat16}
    name = "model.layers.0.mlp.up_proj"
    down, up = (lora[f"base_model.model.{name}.lora_{letter}.weight"] for letter in "AB")
    weight, base = merged[f"{name}.weight"].float(), base[f"{name}.weight"]
    return (weight - base - 2 * (up @ down)).abs().max() / base.abs().max()  # alpha is 2 r


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "--output is missing"),
        (("--output", "x", "--dtype", "int4"), "'int4' is not one of"),
        (("--output", "x", "--into", "both"), "'both' is not one of"),
        (("--output", "x", "--backend", "bigdl"), "BACKEND bitsandbytes"),
        (("--output", "x", "--lora-checkpoint", "nowhere"), "--lora-checkpoint"),
        (("--output", "x", "--prompt-order", "schema_first"), "other prompts"),
        (("--output", "full"), "empty this one"),
        (("--output", "full/mine.txt"), "something is there"),
        (("--output", "full/mine.txt/x"), "--output"),
    ],
)
def test_what_is_refused_before_a_weight_is_loaded(demo_run, tmp_path, monkeypatch, capsys, flags, words):
    monkeypatch.setattr(loading, "load_base", None)
    monkeypatch.chdir(tmp_path)
    Path("full").mkdir()
    Path("full", "mine.txt").write_text("keep")
    with pytest.raises(SystemExit) as caught:
        merge.main([*demo_run, *flags])
    assert caught.value.code == 2
    assert words in capsys.readouterr().err
    assert Path("full", "mine.txt").read_text() == "keep"
    assert not Path("x").exists()


def test_an_empty_folder_may_be_named_by_a_dot(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert merge._check_output(".") == tmp_path


def refused(demo_run, tmp_path, *flags):
    with pytest.raises(SystemExit):
        merge.main([*demo_run, "--output", str(tmp_path / "x"), *flags])
    assert not list(tmp_path.glob("*x"))


def test_without_an_adapter_or_a_disk_there_is_nothing_to_write(demo_run, tmp_path, monkeypatch, capsys):
    refused(demo_run, tmp_path, "--checkpoint-dir", str(tmp_path / "a"), "--model-path", str(tmp_path / "b"))
    assert "there is no adapter to merge" in capsys.readouterr().err
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**7, 0, 10**7))
    refused(demo_run, tmp_path)
    assert "has 0.0 GB free" in capsys.readouterr().err


@pytest.fixture
def of_bigdl(demo_run, tmp_path):
    """The adapter, as one that BACKEND bigdl trained."""
    copy = shutil.copytree(adapter.find_adapter(load_settings(demo_run, "")), tmp_path / "of_bigdl")
    file = copy / checkpoints.FINGERPRINT
    file.write_text(json.dumps(json.loads(file.read_text()) | {"quantisation": "sym_int4"}))
    return ["--lora-checkpoint", str(copy)]


def test_an_adapter_of_bigdl_is_merged_into_unquantised_weights_alone(demo_run, of_bigdl, tmp_path, capsys):
    refused(demo_run, tmp_path, *of_bigdl)
    assert "--into unquantised" in capsys.readouterr().err
    merge.main([*demo_run, "--output", str(tmp_path / "x"), "--dtype", "bf16", "--into", "unquantised", *of_bigdl])
    assert "its own bfloat16 weights" in capsys.readouterr().out
    assert error(demo_run, tmp_path / "x") < 2.0**-8
