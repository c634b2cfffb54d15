"""The model card of an adapter: what it is, how it is used, and what it was made from and with."""

from __future__ import annotations

import json
import re
from pathlib import Path

from sqlora import prompt
from sqlora.atomic import replace_file


def write_model_card(folder: Path, fingerprint: dict) -> None:
    """README.md for the adapter in `folder`, from its fingerprint (see adapter.py), of which any part may be missing.

    Of a local path, the last part alone is told.
    """
    base, data, settings = (fingerprint.get(key) or {} for key in ("base_model", "data", "settings"))
    base_id, revision = base.get("id") or settings.get("BASE_MODEL"), base.get("revision")
    on_hub = _is_hub_id(base_id, revision)
    name = public_name(base_id or "unknown")
    order = settings.get("PROMPT_ORDER", prompt.SEED_ORDER)
    flags = "" if order == prompt.SEED_ORDER else f" --prompt-order {order}"
    head = {
        "base_model": base_id if on_hub else None,
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["text-to-sql", "lora"],
        "datasets": [data["id"]] if _is_hub_id(data.get("id")) else None,
    }
    about = {
        "status": fingerprint.get("status"), "base model": name, "revision": revision, "base model hash": base.get("content"),
        "quantisation in training": fingerprint.get("quantisation"), "training data": data.get("id"),
        "training rows": data.get("rows"), "training data hash": data.get("hash"),
        "prompt hash": fingerprint.get("prompt"), "tokenizer hash": fingerprint.get("tokenizer"),
    }
    tables = {title: _table(fingerprint.get(title.lower()) or {}) for title in ("Settings", "Metrics", "Versions")}
    parts = [
        "---\n" + "".join(f"{key}: {json.dumps(value)}\n" for key, value in head.items() if value) + "---",
        f"# {name}: SQL adapter",
        "A LoRA adapter that turns a question and the tables of a database into one SQL query, made with SQLoRA.",
        _table(about),
        "## Prompt",
        "The model continues exactly this text and ends with its end-of-sequence token; `{question}` and `{context}`, "
        "the CREATE TABLE statements, are to be filled in.",
        f"```text\n{_prompt(order)}```",
        "## Use",
        f"With SQLoRA: `python generate.py --base-model {name} --lora-checkpoint FOLDER{flags}`, with this folder for `FOLDER`"
        + ("." if on_hub else f", and the base model's own for `{name}`."),
        "With transformers and peft alone, started in this folder:",
        f"```python\n{_example(name, revision if on_hub else None, order)}```",
        *(f"## {title}\n\n{table}" for title, table in tables.items() if table),
    ]
    replace_file(folder / "README.md", lambda partial: partial.write_text("\n\n".join(parts) + "\n", encoding="utf-8"))


def _prompt(order: str) -> str:
    return prompt.TEMPLATES[order].replace("{instruction}", prompt.INSTRUCTION)


def _example(base: str, revision: str | None, order: str) -> str:
    """Python that answers a question with transformers and peft alone, as SQLoRA does."""
    pinned = f", revision={revision!r}" if revision else ""
    return f'''import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPT = {_prompt(order)!r}

tokenizer = AutoTokenizer.from_pretrained({base!r}{pinned})
model = AutoModelForCausalLM.from_pretrained({base!r}{pinned}, dtype="auto")
model = PeftModel.from_pretrained(model, ".").eval()

text = PROMPT.format(question="How many albums are there?", context="CREATE TABLE album (id INTEGER, title TEXT)")
start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
ids = torch.tensor([start + tokenizer(text, add_special_tokens=False)["input_ids"]])
with torch.inference_mode():
    output = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=128, do_sample=False,
                            pad_token_id=tokenizer.eos_token_id)
print(tokenizer.decode(output[0, ids.shape[1]:], skip_special_tokens=True))
'''


def _table(rows: dict[str, object]) -> str:
    """A Markdown table of what is known, or nothing."""
    lines = [f"| {name} | {_shown(name, value)} |" for name, value in rows.items() if value not in (None, "", {}, [])]
    return "\n".join(["| name | value |", "| --- | --- |", *lines]) if lines else ""


def _shown(name: str, value: object) -> str:
    if name.endswith("_bytes") and isinstance(value, int | float):
        return f"{value:,} ({value / 1e9:.2f} GB)"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(key, item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_shown("", item) for item in value)
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return " ".join(public_name(text).split()).replace("|", "\\|").replace("<", "&lt;")


def _is_hub_id(name: str | None, revision: str | None = None) -> bool:
    if not name or not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name):
        return False
    is_file = name.endswith((".json", ".jsonl", ".csv", ".parquet"))
    return bool(revision) or ("/" in name and not is_file and not Path(name).exists())


def public_name(name: str) -> str:
    """Of a local path the last part, anything else as it is."""
    if _is_path(name):
        return Path(name.replace("\\", "/")).resolve().name
    return name


def _is_path(text: str) -> bool:
    """Whether it starts as a path does, or has slashes and is neither a hub id nor prose."""
    return bool(re.match(r"[~/\\]|\.\.?[/\\]|[A-Za-z]:[/\\]|\.+$", text)) or (
        "/" in text and (text.count("/") > 1 or not _is_hub_id(text)) and not any(map(str.isspace, text)))
