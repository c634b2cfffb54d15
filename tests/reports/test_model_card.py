"""The model card: what it tells, what it keeps to itself, and code that runs."""

import ast
import json

import pytest
import yaml
from markdown_it import MarkdownIt

from sqlora.prompt import template
from sqlora.reports import model_card

HUB = {"id": "owner/base", "revision": "abc", "content": "0"}


def card(folder, base_model=None, **parts):
    model_card.write_model_card(folder, parts | ({"base_model": base_model} if base_model else {}))
    text = (folder / "README.md").read_text(encoding="utf-8")
    return yaml.safe_load(text.split("---\n")[1]), text


def test_the_model_card_of_a_hub_base(tmp_path):
    head, text = card(
        tmp_path,
        HUB,
        data={"id": "owner/rows", "hash": "0", "rows": 7},
        quantisation={"kind": "nf4"},
        settings={"MAX_STEPS": 3, "DATA_PATH": "a|b\nc", "LORA_TARGETS": ["q_proj", "v_proj"]},
        versions={"torch": "2.13.0"},
        status="interrupted",
        metrics={"loss": 0.5, "peak_memory_bytes": 2_500_000_000},
    )
    assert head == {
        "base_model": "owner/base",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["text-to-sql", "lora"],
        "datasets": ["owner/rows"],
    }
    for line in (
        "| MAX_STEPS | 3 |",
        "| DATA_PATH | a\\|b c |",
        "| LORA_TARGETS | q_proj, v_proj |",
        "| torch | 2.13.0 |",
        "| peak_memory_bytes | 2,500,000,000 (2.50 GB) |",
        "| quantisation in training | kind nf4 |",
    ):
        assert line in text
    assert "interrupted" in text
    assert template.build_prompt("{question}", "{context}") in text
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


@pytest.mark.parametrize("home", ["/home/somebody", "C:\\Users\\somebody", "~somebody/x", "../somebody"])
def test_the_model_card_of_a_local_base_has_no_local_paths(tmp_path, home):
    base, rows = f"{home}/llama", f"{home}/my rows.jsonl"
    head, text = card(
        tmp_path,
        {"id": base, "revision": None, "content": "0"},
        data={"id": rows, "rows": 7},
        settings={"BASE_MODEL": base, "DATA_PATH": rows, "MODEL_PATH": home + "/out", "LIST": [base]},
    )
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

    from sqlora.generation import answer_writer
    from sqlora.settings.command_line import load_settings

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
    settings = load_settings(["--constrain", "off"], "")
    (sql,) = answer_writer.SqlWriter(model, llama_tokenizer, settings).write([row])
    assert template.extract_sql(said) == sql


HOSTILE = "x/<script>alert(1)</script> [a](http://evil) `b` ![c](d)\n\n# heading\n```\n"


@pytest.mark.parametrize("base_id", ["hub", "local"])
@pytest.mark.parametrize("merged", [False, True])
def test_what_comes_from_outside_is_shown_and_never_markup(tmp_path, merged, base_id):
    base_id = {"hub": "owner/base", "local": HOSTILE}[base_id]
    parts = {
        "base_model": {"id": base_id, "revision": HOSTILE, "content": HOSTILE},
        "data": {"id": HOSTILE, "hash": HOSTILE},
        "quantisation": HOSTILE,
        "status": HOSTILE,
        "prompt": HOSTILE,
        "tokenizer": {HOSTILE: HOSTILE},
        "settings": {"DATA_PATH": HOSTILE, HOSTILE: 1},
        "versions": {HOSTILE: HOSTILE},
        "metrics": {HOSTILE: [HOSTILE]},
    }
    if merged:
        model_card.write_merged_card(tmp_path, parts, {HOSTILE: HOSTILE}, template.DEFAULT_LAYOUT)
    else:
        model_card.write_model_card(tmp_path, parts)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "<script" not in text
    shown = MarkdownIt("commonmark").enable("table").render(text.split("---\n", 2)[2])
    assert all(markup not in shown for markup in ("<script", "<a ", "<img", "<em>"))
    assert text.count("```") == 4
    assert text.count("\n# ") == 1
    ast.parse(text.split("```python\n")[1].split("```")[0])
    assert yaml.safe_load(text.split("---\n")[1])["pipeline_tag"] == "text-generation"


def test_what_somebody_asked_stays_out_of_the_card(tmp_path):
    private = dict.fromkeys(
        ("QUESTION", "CONTEXT", "QUESTIONS", "DATABASE", "OUTPUT", "SAVE_FEEDBACK"), "salary of Mary"
    )
    _, text = card(tmp_path, HUB, settings=private | {"TABLES": ["salary of Mary"], "MAX_STEPS": 3})
    assert "Mary" not in text
    assert "| MAX_STEPS | 3 |" in text
