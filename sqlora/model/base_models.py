"""Where a base model's files come from: a local folder, a GGUF file, the hub's cache, or the hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlora.model import gguf_file
from sqlora.storage import download
from sqlora.storage.hub import WAYS_OUT, files_hash, list_files
from sqlora.system.errors import UserError

WEIGHTS = ("*.safetensors", "*.bin")


@dataclass(frozen=True)
class BaseModel:
    """A base model's folder, and what identifies it: hub id or folder, hub commit, hash of its configuration and
    weights.
    """

    folder: Path
    id: str
    revision: str | None
    content: str


def find_base_model(name: str, weights: bool = True) -> BaseModel:
    """The model `name`, a folder, a GGUF file or a hub id, downloaded if it is not in the cache, without its `weights`
    if they are not wanted. Raises UserError if it is nowhere.
    """
    if (file := gguf_file.find(name)) is not None:
        return BaseModel(gguf_file.unpack(file), name, None, gguf_file.content_hash(file))
    folder = Path(name)
    if folder.is_dir():
        revision = None
    elif folder.exists():
        raise UserError(
            f"BASE_MODEL (--base-model) is {name!r}, a file; name the folder that holds config.json, or a .gguf file"
        )
    elif name.count("/") > 1 or name[0] in "./~\\":
        raise UserError(
            f"BASE_MODEL (--base-model) is {name!r}, and there is no such folder; name a folder or a hub id"
        )
    else:
        folder = _download(name, weights)
        revision = folder.name
    if not (folder / "config.json").is_file():
        raise UserError(
            f"BASE_MODEL (--base-model) is {name!r}, and it has no config.json; it must be a transformers model"
        )
    if odd := [file.name for file in folder.iterdir() if file.exists() and not (file.is_file() or file.is_dir())]:
        raise UserError(
            f"BASE_MODEL (--base-model) is {name!r}, and its {odd[0]} is a device or a pipe, not a file; remove it"
        )
    return BaseModel(folder, name, revision, _content_hash(folder))


def _download(repo: str, weights: bool) -> Path:
    from huggingface_hub import utils as errors

    try:
        files = list_files("model", repo)
        kind = WEIGHTS[1] if files and not any(file.endswith(".safetensors") for file in files) else WEIGHTS[0]
        return download.fetch(
            f"BASE_MODEL (--base-model) {repo!r}",
            "model",
            repo,
            ["*.json", "*.model", "*.txt", *([kind] if weights else [])],
            ["*/*", "consolidated*"],
            offline=files is None,
        )
    except errors.GatedRepoError:
        raise UserError(
            f"BASE_MODEL (--base-model) is {repo!r}, which is gated: accept its terms on its page and log in "
            f"with `hf auth login`, or name a local folder"
        ) from None
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        raise UserError(
            f"BASE_MODEL (--base-model) is {repo!r}, and neither a folder nor a public model on the hub has this "
            f"name; correct it, or log in with `hf auth login` if it is private"
        ) from None
    except (FileNotFoundError, *download.network_errors()) as error:  # type: ignore[misc] # exceptions, whatever mypy says
        raise UserError(
            f"BASE_MODEL (--base-model) is {repo!r}, which is not complete in the cache, and the hub cannot be reached "
            f"({type(error).__name__}); {WAYS_OUT}"
        ) from None


def _content_hash(folder: Path) -> str:
    """Sixteen hexadecimal digits over config.json and each weight file's name, size, beginning and end.

    They hold a safetensors file's header and its last weights; reading all of 13 GB would take longer than loading it.
    """
    weights = sorted(path for pattern in WEIGHTS for path in folder.glob(pattern))
    return files_hash(weights, (folder / "config.json").read_bytes())
