"""A model written as an ordinary transformers folder, which other programs read, and in which they find prompt.py's
contract.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from transformers import AutoTokenizer, GenerationConfig, PreTrainedModel

from sqlora.model.architecture import end_tokens, known_tokens
from sqlora.model.base_models import BaseModel
from sqlora.prompt import encoding, template
from sqlora.prompt.template import DEFAULT_LAYOUT
from sqlora.system.errors import UserError

SHARD = "5GB"


def write_model(
    folder: Path, model: PreTrainedModel, tokenizer, base: BaseModel, max_new_tokens: int, layout: str = DEFAULT_LAYOUT
) -> None:
    """Weights, configuration and tokenizer into `folder`: a prompt that is tokenised begins with BOS, and generation
    ends at EOS, or where a turn of the chat ends if the prompts' `layout` is one.

    Generation is greedy and writes at most `max_new_tokens`, as in generate.py with its defaults.
    """
    known, ends = known_tokens(model), sorted(end_tokens(model, tokenizer, layout))
    pad = (
        tokenizer.eos_token_id
        if tokenizer.pad_token_id is None or tokenizer.pad_token_id >= known
        else tokenizer.pad_token_id
    )
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=ends if len(ends) > 1 else ends[0],
        pad_token_id=pad,
        do_sample=False,
        max_new_tokens=max_new_tokens,
    )
    model.save_pretrained(folder, max_shard_size=SHARD)
    _change(folder / "config.json", _older_names)
    write_tokenizer(folder, tokenizer, base)


def write_tokenizer(folder: Path, tokenizer, base: BaseModel) -> None:
    """The base's tokenizer, so that calling it on a prompt gives the ids of training. Changes the one that is given.

    Raises UserError where it cannot be written so.
    """
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    text = template.build_prompt("How many?", "CREATE TABLE t (a INTEGER)")
    trained = encoding.encode_prompt(tokenizer, "How many?", "CREATE TABLE t (a INTEGER)")
    if tokenizer(text)["input_ids"] != trained:
        tokenizer.add_bos_token, tokenizer.add_eos_token = tokenizer.bos_token_id is not None, False
    tokenizer.save_pretrained(folder)
    if (base.folder / "tokenizer.model").is_file():
        shutil.copy(base.folder / "tokenizer.model", folder)  # which llama.cpp would rather read
    # Versions before 5 know no TokenizersBackend; those since take the older name for it. Answers begin behind their
    # prompts.
    _change(
        folder / "tokenizer_config.json",
        lambda content: (
            content
            | {"padding_side": "left"}
            | (
                {"tokenizer_class": "PreTrainedTokenizerFast"}
                if content.get("tokenizer_class") == "TokenizersBackend"
                else {}
            )
        ),
    )
    if AutoTokenizer.from_pretrained(folder, trust_remote_code=False)(text)["input_ids"] != trained:
        raise UserError(
            "the base model's tokenizer does not come back from a file as it was: other programs would read prompts "
            "otherwise than they were trained; serve the adapter as it is, on its base"
        )


def _older_names(config: dict) -> dict:
    """The configuration with the rope also where programs of before transformers 5 look for it: they would take a
    default.
    """
    rope = config.get("rope_parameters") or {}
    older = {"rope_theta": rope["rope_theta"]} if "rope_theta" in rope else {}
    return config | older | ({"rope_scaling": rope} if rope.get("rope_type", "default") != "default" else {})


def _change(file: Path, change) -> None:
    changed = change(json.loads(file.read_text(encoding="utf-8")))
    file.write_text(json.dumps(changed, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
