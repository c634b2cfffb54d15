"""The model card of an adapter or a merged model: what it is, how it is used, and what it was made from and with."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

from sqlora.prompt import template
from sqlora.storage.atomic import replace_file

# Settings that say what somebody asked and kept where, and nothing about the adapter.
PRIVATE = {"QUESTION", "CONTEXT", "QUESTIONS", "DATABASE", "TABLES", "OUTPUT", "SAVE_FEEDBACK"}


def write_model_card(folder: Path, fingerprint: dict) -> None:
    """README.md for the adapter in `folder`, from its fingerprint (see adapter.py), of which any part may be missing.

    Of a local path only the last part is shown.
    """
    _, revision, on_hub, name = _base(fingerprint)
    settings = fingerprint.get("settings") or {}
    layout = settings.get("PROMPT_ORDER", template.DEFAULT_LAYOUT)
    layout += template.CHAT if settings.get("PROMPT_FORMAT") == "chat" else ""
    _write(
        folder,
        [
            _head(fingerprint, "peft", "lora"),
            f"# {name}: SQL adapter",
            "A LoRA adapter that turns a question and the tables of a database into one SQL query, made with SQLoRA.",
            _table(_origin(fingerprint)),
            *_prompt_section(layout),
            "## Use",
            f"With SQLoRA: `python generate.py --base-model {name} --lora-checkpoint FOLDER{_layout_flags(layout)}`, "
            f"with this folder for `FOLDER`" + ("." if on_hub else f", and the base model's own for `{name}`."),
            "With transformers and peft alone, started in this folder:",
            f"```python\n{_example(name, revision if on_hub else None, layout)}```",
            *_tables(fingerprint),
        ],
    )


def write_merged_card(folder: Path, fingerprint: dict, facts: dict[str, object], layout: str) -> None:
    """README.md for the model in `folder` that an adapter was merged into: its adapter's fingerprint, `facts` of the
    merge.

    `layout` is that of the adapter's prompts.
    """
    name = _base(fingerprint)[-1]
    _write(
        folder,
        [
            _head(fingerprint, "transformers", "merged"),
            f"# {name}, merged with an SQL adapter",
            "A model that turns a question and the tables of a database into one SQL query, made with SQLoRA.",
            _table(facts | _origin(fingerprint)),
            *_prompt_section(layout),
            "## Use",
            "With SQLoRA: `python generate.py --model base --low-bit none --base-model "
            f"FOLDER{_layout_flags(layout)}`, with this folder for `FOLDER`.",
            "With transformers alone, started in this folder:",
            f"```python\n{_merged_example(layout)}```",
            *_tables(fingerprint),
        ],
    )


def _write(folder: Path, parts: list[str]) -> None:
    replace_file(folder / "README.md", lambda partial: partial.write_text("\n\n".join(parts) + "\n", encoding="utf-8"))


def _base(fingerprint: dict) -> tuple[str | None, str | None, bool, str]:
    """The base model's id and revision, whether the hub has it, and the name to show."""
    base, settings = (fingerprint.get(key) or {} for key in ("base_model", "settings"))
    base_id, revision = base.get("id") or settings.get("BASE_MODEL"), base.get("revision")
    name = re.sub(r"[^\w ./+@-]", "-", public_name(str(base_id or "unknown")))  # it is also part of code and commands
    return base_id, revision, _is_hub_id(base_id, revision), " ".join(name.split())


def _head(fingerprint: dict, library: str, tag: str) -> str:
    """What a hub reads of the card."""
    base_id, _, on_hub, _ = _base(fingerprint)
    data = fingerprint.get("data") or {}
    head = {
        "base_model": base_id if on_hub else None,
        "library_name": library,
        "pipeline_tag": "text-generation",
        "tags": ["text-to-sql", tag],
        "datasets": [data["id"]] if _is_hub_id(data.get("id")) else None,
    }
    return "---\n" + "".join(f"{key}: {json.dumps(value)}\n" for key, value in head.items() if value) + "---"


def _origin(fingerprint: dict) -> dict[str, object]:
    base, data = (fingerprint.get(key) or {} for key in ("base_model", "data"))
    return {
        "status": fingerprint.get("status"),
        "base model": _base(fingerprint)[-1],
        "revision": base.get("revision"),
        "base model hash": base.get("content"),
        "quantisation in training": fingerprint.get("quantisation"),
        "training data": data.get("id"),
        "training rows": data.get("rows"),
        "training data hash": data.get("hash"),
        "prompt hash": fingerprint.get("prompt"),
        "tokenizer hash": fingerprint.get("tokenizer"),
    }


def _layout_flags(layout: str) -> str:
    return "" if layout == template.DEFAULT_LAYOUT else f" {template.layout_flags(layout)}"


def _prompt_section(layout: str) -> list[str]:
    use = (
        "The model answers exactly this message of a user, in the chat template of its tokenizer"
        if template.is_chat(layout)
        else "The model continues exactly this text and ends with its end-of-sequence token"
    )
    return [
        "## Prompt",
        use + "; `{question}` and `{context}`, the CREATE TABLE statements, are to be filled in.",
        f"```text\n{_prompt(layout)}```",
    ]


def _tables(fingerprint: dict) -> list[str]:
    rows = {title: fingerprint.get(title.lower()) or {} for title in ("Settings", "Metrics", "Versions")}
    rows["Settings"] = {name: value for name, value in rows["Settings"].items() if name not in PRIVATE}
    tables = {title: _table(facts) for title, facts in rows.items()}
    return [f"## {title}\n\n{table}" for title, table in tables.items() if table]


def _prompt(layout: str) -> str:
    return template.TEMPLATES[layout].replace("{instruction}", template.INSTRUCTION)


def _chat_line(layout: str) -> str:
    """The line of an example that makes a message the text of a conversation; empty where prompts are plain."""
    if not template.is_chat(layout):
        return ""
    return """turns = [{"role": "user", "content": text}]
text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, enable_thinking=False)
"""


def _example(base: str, revision: str | None, layout: str) -> str:
    """Python that answers a question with transformers and peft alone, as SQLoRA does."""
    start = "[]" if template.is_chat(layout) else "[] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]"
    pinned = f", revision={revision!r}" if revision and re.fullmatch(r"[\w./-]+", revision) else ""
    return f"""import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPT = {_prompt(layout)!r}

tokenizer = AutoTokenizer.from_pretrained({base!r}{pinned})
model = AutoModelForCausalLM.from_pretrained({base!r}{pinned}, dtype="auto")
model = PeftModel.from_pretrained(model, ".").eval()

text = PROMPT.format(question="How many albums are there?", context="CREATE TABLE album (id INTEGER, title TEXT)")
{_chat_line(layout)}start = {start}
ids = torch.tensor([start + tokenizer(text, add_special_tokens=False)["input_ids"]])
with torch.inference_mode():
    output = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=128, do_sample=False,
                            pad_token_id=tokenizer.eos_token_id)
print(tokenizer.decode(output[0, ids.shape[1]:], skip_special_tokens=True))
"""


def _merged_example(layout: str) -> str:
    """Python that answers a question with transformers alone, as SQLoRA does."""
    options = ", add_special_tokens=False" if template.is_chat(layout) else ""
    return f"""from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPT = {_prompt(layout)!r}

tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForCausalLM.from_pretrained(".", dtype="auto")

text = PROMPT.format(question="How many albums are there?", context="CREATE TABLE album (id INTEGER, title TEXT)")
{_chat_line(layout)}prompt = tokenizer(text, return_tensors="pt"{options})
output = model.generate(**prompt)
print(tokenizer.decode(output[0, prompt["input_ids"].shape[1]:], skip_special_tokens=True))
"""


def _table(rows: dict[str, object]) -> str:
    """A Markdown table of what is known, or nothing."""
    lines = [
        f"| {_plain(name)} | {_shown(name, value)} |" for name, value in rows.items() if value not in (None, "", {}, [])
    ]
    return "\n".join(["| name | value |", "| --- | --- |", *lines]) if lines else ""


def _shown(name: str, value: object) -> str:
    if name.endswith("_bytes") and isinstance(value, int | float):
        return f"{value:,} ({value / 1e9:.2f} GB)"
    if isinstance(value, dict):
        return ", ".join(f"{_plain(key)} {_shown(key, item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_shown("", item) for item in value)
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return _plain(public_name(text))


def _plain(text: str) -> str:
    """The text as Markdown that shows it and nothing else: no markup, no HTML, no link, in one line."""
    shown = "".join(char if char.isprintable() else " " for char in text)
    return re.sub(
        r"([\\`*\[\]|!~])", r"\\\1", html.escape(" ".join(shown.split()), quote=False).replace("://", ":&#8203;//")
    )


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
        "/" in text and (text.count("/") > 1 or not _is_hub_id(text)) and not any(map(str.isspace, text))
    )
