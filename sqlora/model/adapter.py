"""Adapters on disk: written, found, loaded, and checked against their base model, prompt and tokenizer."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from peft import PeftModel

from sqlora.model import adapter_kinds, loading, quantised
from sqlora.model.adapter_kinds import CONFIGURATION
from sqlora.model.base_models import BaseModel
from sqlora.prompt import encoding, template
from sqlora.settings.settings import Settings
from sqlora.storage.checkpoints import FINGERPRINT, PREFIX, WEIGHTS, file_hash, is_whole, read_fingerprint, step_of
from sqlora.system.errors import UserError

LIBRARIES = (
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "accelerate",
    "datasets",
    "bigdl-llm",
    "ipex-llm",
    "intel-extension-for-pytorch",
)


def make_fingerprint(base: BaseModel, tokenizer, settings: Settings, data: dict[str, object]) -> dict[str, object]:
    """What identifies an adapter and its origin. `data` has the training data's id, hash and number of rows."""
    return {
        "base_model": {"id": base.id, "revision": base.revision, "content": base.content},
        "prompt": encoding.hash_of_prompts(tokenizer, settings.prompt_layout),
        "tokenizer": tokenizer_hash(tokenizer),
        "quantisation": settings.LOW_BIT,  # replaced by quantised.in_memory once the base is loaded
        "settings": settings.as_dict(),
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES if _is_installed(name)},
        "data": data,
    }


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def tokenizer_hash(tokenizer) -> str:
    """Sixteen hexadecimal digits over the vocabulary, the special tokens, and the ids of a piece of SQL."""
    vocabulary = sorted(tokenizer.get_vocab().items())
    seen = [
        vocabulary,
        tokenizer.bos_token_id,
        tokenizer.eos_token_id,
        encoding.encode_answer(tokenizer, encoding.PROBE),
    ]
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:16]


def write_adapter(model: PeftModel, folder: Path, base: BaseModel) -> None:
    """Writes the adapter's weights and configuration, without a fingerprint, to `folder`."""
    # PEFT need not search the hub for a changed vocabulary: the embeddings are never trained.
    model.peft_config["default"].base_model_name_or_path = base.id
    model.save_pretrained(str(folder), save_embedding_layers=False, safe_serialization=True)
    (folder / "README.md").unlink()  # PEFT's template; model_card.py writes the card


def find_adapter(settings: Settings) -> Path | None:
    """The folder that LORA_CHECKPOINT names; "latest" is the newest whole checkpoint or finished adapter.

    None if there is none yet. Raises UserError if the named folder is not an adapter, or if MODEL is adapter and there
    is none.
    """
    if settings.LORA_CHECKPOINT != "latest":
        folder = Path(settings.LORA_CHECKPOINT)
        if not (folder / WEIGHTS).is_file():
            raise UserError(
                f"LORA_CHECKPOINT (--lora-checkpoint) is {str(folder)!r}, and there is no {WEIGHTS} in it; name an "
                f"adapter's folder, or latest"
            )
        return folder
    checkpoints = filter(is_whole, Path(settings.CHECKPOINT_DIR).glob(PREFIX + "*"))
    newest = max(checkpoints, key=step_of, default=None)  # by its step, since the clock may have been set back
    candidates = [Path(settings.MODEL_PATH), *([newest] if newest else [])]
    whole = [(read_fingerprint(folder)["written"], folder) for folder in candidates if is_whole(folder)]
    if not whole and settings.MODEL == "adapter":
        raise UserError(
            f"MODEL (--model) is 'adapter', and neither {settings.MODEL_PATH} nor {settings.CHECKPOINT_DIR} holds "
            f"one yet; run finetune.py first, or name one with --lora-checkpoint"
        )
    return max(whole)[1] if whole else None


def check_adapter(folder: Path, base: BaseModel, tokenizer, layout: str) -> dict | None:
    """The adapter's fingerprint, or None for an adapter of other software, which has none.

    `layout` is that of the prompts here. Raises UserError if the adapter belongs to another base, prompt or tokenizer,
    with the difference, is damaged, or of a kind that SQLoRA does not run.
    """
    adapter_kinds.read_kind(folder)
    if not (folder / FINGERPRINT).exists():
        return None
    fingerprint = read_fingerprint(folder)
    described = fingerprint["files"] | {WEIGHTS: fingerprint["weights"]}
    for name in (WEIGHTS, CONFIGURATION):
        if described.get(name) != file_hash(folder / name):
            raise UserError(
                f"{folder}: {name} does not match {FINGERPRINT}; the adapter is damaged or partly replaced: name "
                f"another --lora-checkpoint, or train again"
            )
    trained, here = fingerprint["base_model"], {"id": base.id, "revision": base.revision, "content": base.content}
    if trained.get("content") != base.content:
        raise UserError(
            f"{folder} was trained on another base: {_describe(trained)}, not {_describe(here)}; set BASE_MODEL "
            f"(--base-model) to it, or name another --lora-checkpoint"
        )
    layouts = [
        name for name in template.TEMPLATES if getattr(tokenizer, "chat_template", None) or not template.is_chat(name)
    ]
    hashes = {encoding.hash_of_prompts(tokenizer, name): name for name in layouts}
    if (other := hashes.get(fingerprint["prompt"], layout)) != layout:
        raise UserError(
            f"{folder} was trained with other prompts: {template.layout_flags(other)}, and here they are "
            f"{template.layout_flags(layout)}; give those flags, or name another --lora-checkpoint"
        )
    for key, now in (
        ("prompt", encoding.hash_of_prompts(tokenizer, layout)),
        ("tokenizer", tokenizer_hash(tokenizer)),
    ):
        if fingerprint[key] != now:
            raise UserError(
                f"{folder} was trained with another {key}: {fingerprint[key]}, not {now}; use the version and the "
                f"files that it was trained with, or train again"
            )
    return fingerprint


def schema_style(folder: Path | None, fingerprint: dict | None, wanted: str) -> str:
    """SCHEMA_STYLE, for auto as the adapter was trained; auto for a base alone. Raises UserError if it is another."""
    if folder is None:
        return wanted
    trained = (fingerprint or {}).get("data", {}).get("schema_style", "plain")
    if wanted not in ("auto", trained):
        raise UserError(
            f"{folder} was trained with SCHEMA_STYLE (--schema-style) {trained}, and it is {wanted!r}; leave it at auto"
        )
    return trained


def check_dialect(folder: Path, fingerprint: dict | None, dialect: str) -> None:
    """Raises UserError if the adapter writes SQL of another dialect than SQL_DIALECT."""
    trained = (fingerprint or {}).get("data", {}).get("sql_dialect", "sqlite")
    if trained != dialect:
        raise UserError(
            f"{folder} was trained on SQL of {trained}; SQL_DIALECT (--sql-dialect) is {dialect!r}: set it to "
            f"{trained!r}, or name another --lora-checkpoint"
        )


def load_adapter(model, folder: Path) -> PeftModel:
    """The base with the adapter of `folder`, read from safetensors only.

    Raises UserError for a kind that SQLoRA does not run (adapter_kinds.py), and if any part does not fit the base.
    """
    kind = adapter_kinds.read_kind(folder)
    adapter_kinds.check_quantised(kind, quantised.in_memory(model) != quantised.NONE)
    adapter_kinds.check_patterns(kind, [name for name, _ in (*model.named_modules(), *model.named_parameters())])
    with torch.random.fork_rng(devices=[]), _loading(folder):
        torch.manual_seed(0)  # PiSSA may decompose the base's weights with random numbers: the same every time
        wrapped = loading.load_adapter(model, folder)
    _fill(wrapped, folder, trainable=False)
    return wrapped


def changes_base(folder: Path) -> bool:
    """Whether the adapter changes the base itself, even when switched off: then the base must answer first.

    Raises UserError for a kind that SQLoRA does not run.
    """
    return adapter_kinds.read_kind(folder).changes_base


def resume_adapter(model: PeftModel, folder: Path) -> None:
    """Loads the weights of a checkpoint of the run's adapter. Raises UserError if they are another adapter's."""
    _fill_alike(
        model,
        folder,
        "delete it, and resume from the previous one, or start anew without --resume",
        adapter_kinds.SHAPING,
    )


def start_from(model: PeftModel, folder: Path, base: BaseModel, tokenizer, layout: str) -> str:
    """Loads a finished adapter's weights into the run's fresh one; returns the SHA-256 of their file.

    `layout` is that of the run's prompts. Raises UserError if the adapter was trained on another base, prompt or
    tokenizer, or has another shape than LORA_R, LORA_ALPHA and LORA_TARGETS give.
    """
    if not (folder / WEIGHTS).is_file():
        raise UserError(
            f"START_FROM (--start-from) is {str(folder)!r}, and there is no {WEIGHTS} in it; name an adapter's folder"
        )
    check_adapter(folder, base, tokenizer, layout)
    remedy = "give this run the adapter's LORA_R, LORA_ALPHA and LORA_TARGETS, or leave --start-from out"
    _fill_alike(model, folder, remedy, adapter_kinds.SHAPING - {"init_lora_weights"})
    return file_hash(folder / WEIGHTS)


def _fill_alike(model: PeftModel, folder: Path, remedy: str, compared: set[str]) -> None:
    """Loads the weights of an adapter that has the shape of the run's own, or raises UserError with the difference."""
    there = _comparable(adapter_kinds.read_kind(folder).config)
    here = _comparable(model.peft_config["default"].to_dict())
    if other := [name for name in sorted(here.keys() & there.keys() & compared) if here[name] != there[name]]:
        raise UserError(
            f"{folder}: {CONFIGURATION} is not that of this run's adapter, whose {other[0]} is {here[other[0]]}, not "
            f"{there[other[0]]}; {remedy}"
        )
    _fill(model, folder, trainable=True)


def _comparable(config: dict) -> dict:
    return {name: sorted(value) if isinstance(value, list | set | tuple) else value for name, value in config.items()}


def _fill(model: PeftModel, folder: Path, trainable: bool) -> None:
    """Loads the adapter's weights. PEFT ignores those that do not fit; here a UserError counts and names them."""
    with _loading(folder):
        result = model.load_adapter(str(folder), "default", is_trainable=trainable)
    missing = [name for name in result.missing_keys if "default" in name.split(".")]
    for names, fault in (
        (result.unexpected_keys, "do not exist in this base"),
        (missing, "are missing, and this base needs them"),
    ):
        if names:
            raise _misfit(folder, names, fault)
    own = {name: weight for name, weight in model.named_parameters() if "default" in name.split(".")}
    if broken := [name for name, weight in own.items() if not weight.isfinite().all()]:
        raise _misfit(folder, broken, "hold numbers that are not finite")


def _misfit(folder: Path, names: list[str], fault: str) -> UserError:
    plain = sorted({name.removeprefix("base_model.model.").replace(".default", "") for name in names})
    return UserError(
        f"{folder}: this adapter cannot be loaded on this base: {len(plain)} of its tensors {fault}, such as "
        f"{' and '.join(plain[:2])}; set BASE_MODEL (--base-model) to the model that it was trained on, or name "
        f"another --lora-checkpoint"
    )


@contextlib.contextmanager
def _loading(folder: Path) -> Iterator[None]:
    """Raises PEFT's errors, which can be of any type for a wrong configuration, as UserError."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        if names := re.findall(r"size mismatch for (\S+):", str(error)):
            raise _misfit(folder, names, "have other shapes than this base's") from None
        raise UserError(
            f"{folder}: this adapter cannot be loaded on this base: {type(error).__name__}: {error}; name another "
            f"--lora-checkpoint"
        ) from error


def _describe(base: dict) -> str:
    return f"{base.get('id')} (revision {base.get('revision')}, content {base.get('content')})"
