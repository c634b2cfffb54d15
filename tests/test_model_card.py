"""The model card: what it tells, what it keeps to itself, and code that runs."""

import json

import pytest
import yaml

from sqlora import model_card, prompt

HUB = {"id": "owner/base", "revision": "abc", "content": "0"}


def card(folder, base_model=None, **parts):
    model_card.write_model_card(folder, parts | ({"base_model": base_model} if base_model else {}))
    text = (folder / "README.md").read_text(encoding="utf-8")
    return yaml.safe_load(text.split("---\n")[1]), text


def test_the_model_card_of_a_hub_base(tmp_path):
    head, text = card(
        tmp_path, HUB, data={"id": "owner/rows", "hash": "0", "rows": 7}, quantisation={"kind": "nf4"},
        settings={"MAX_STEPS": 3, "DATA_PATH": "a|b\nc", "LORA_TARGETS": ["q_proj", "v_proj"]},
        versions={"torch": "2.13.0"}, status="interrupted", metrics={"loss": 0.5, "peak_memory_bytes": 2_500_000_000})
    assert head == {"base_model": "owner/base", "library_name": "peft", "pipeline_tag": "text-generation",
                    "tags": ["text-to-sql", "lora"], "datasets": ["owner/rows"]}
    for line in ("| MAX_STEPS | 3 |", "| DATA_PATH | a\\|b c |", "| LORA_TARGETS | q_proj, v_proj |",
                 "| torch | 2.13.0 |", "| peak_memory_bytes | 2,500,000,000 (2.50 GB) |",
                 "| quantisation in training | kind nf4 |"):
        assert line in text
    assert "interrupted" in text
    assert prompt.build_prompt("{question}", "{context}") in text
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


@pytest.mark.parametrize("home", ["/home/somebody", "C:\\Users\\somebody", "~somebody/x", "../somebody"])
def test_the_model_card_of_a_local_base_has_no_local_paths(tmp_path, home):
    base, rows = f"{home}/llama", f"{home}/my rows.jsonl"
    head, text = card(tmp_path, {"id": base, "revision": None, "content": "0"}, data={"id": rows, "rows": 7},
                      settings={"BASE_MODEL": base, "DATA_PATH": rows, "MODEL_PATH": home + "/out", "LIST": [base]})
    assert head.keys() == {"library_name", "pipeline_tag", "tags"}
    assert "somebody" not in text
    assert "| BASE_MODEL | llama |" in text
    assert "| DATA_PATH | my rows.jsonl |" in text


def test_a_folder_that_looks_like_a_hub_id_is_none(tmp_path, monkeypatch):
    (tmp_path / "models" / "llama").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    head, text = card(tmp_path, {"id": "models/llama", "revision": None}, data={"id": "demo/train.jsonl"})
    assert head.keys() == {"library_name", "pipeline_tag", "tags"}
    assert "models/llama" not in text


@pytest.mark.parametrize("parts", [{}, dict.fromkeys(("data", "settings", "metrics", "versions", "status", "prompt"))])
def test_the_model_card_of_an_empty_fingerprint(tmp_path, parts):
    head, text = card(tmp_path, {"id": None, "revision": None} if parts else None, **parts)
    assert head["library_name"] == "peft"
    assert "None" not in text.replace("is None", "")


def test_the_code_on_the_model_card_runs_and_says_what_the_toolkit_says(
    llama_folder, llama_tokenizer, tmp_path, monkeypatch, capsys
):
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    from sqlora import generation
    from sqlora.settings import load_settings

    # Without PEFT's initial zeros, so that an adapter that is not loaded shows.
    shape = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], lora_alpha=16, init_lora_weights=False)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(llama_folder), shape)
    model.save_pretrained(tmp_path)
    _, text = card(tmp_path, {"id": str(llama_folder), "revision": None})
    code = text.split("```python\n")[1].split("```")[0].replace(repr(llama_folder.name), repr(str(llama_folder)))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    said = capsys.readouterr().out
    row = {"question": "How many albums are there?", "context": "CREATE TABLE album (id INTEGER, title TEXT)"}
    assert json.dumps(row["question"]) in code
    assert row["context"] in code
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(llama_folder), tmp_path).eval()
    settings = load_settings([], "")
    (sql,) = generation.SqlWriter(model, llama_tokenizer, settings).write([row])
    assert prompt.extract_sql(said) == sql
