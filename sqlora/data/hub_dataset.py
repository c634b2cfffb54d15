"""Folders of row files, and datasets on the hub, read by the library datasets."""

from __future__ import annotations

import contextlib
import glob
from collections.abc import Iterable, Iterator
from pathlib import Path
from textwrap import shorten
from typing import Any

from sqlora.storage import download, hub
from sqlora.storage.row_files import SUFFIXES, kind
from sqlora.system.console import note
from sqlora.system.errors import FIXABLE, UserError

DESCRIPTIONS = ("README.md", ".huggingface.yaml")  # files of a hub dataset that say which files are its data


def read_dataset(name: str, where: str) -> Iterable[object]:
    """The records of the train split of a folder or a hub dataset. Raises UserError, beginning with `where`."""
    with readable(where):
        builder = dataset_builder(name, where)
        _fetch_data_files(builder.config.data_files or {}, where)
        builder.download_and_prepare()
        return train_split(builder.as_dataset(), where)


def train_files(folder: Path, where: str) -> list[Path] | None:
    """The row files of a folder's train split, as datasets finds them; None if they are of other kinds.

    A note names the row files that are in no split. Raises UserError, beginning with `where`.
    """
    with readable(where):
        splits = dataset_builder(str(folder), where).config.data_files or {}
        files = [Path(file) for file in train_split(splits, where)]
    if not all(kind(file) in SUFFIXES for file in files):
        return None
    used = {Path(file) for split in splits.values() for file in split}
    unused = sorted(file for file in folder.absolute().rglob("*") if kind(file) in SUFFIXES and file not in used)
    if unused:
        names = ", ".join(str(file.relative_to(folder.absolute())) for file in unused)
        note(f"{where}: these files are in no split, and not read: {shorten(names, 300, placeholder=' …')}")
    return files


def dataset_builder(name: str, where: str):
    """The library's builder for a folder or a hub dataset; without the hub, for what is in its cache."""
    import datasets
    import huggingface_hub

    datasets.disable_progress_bar()
    folder = Path(name)
    if (folder / datasets.config.DATASET_STATE_JSON_FILENAME).exists():
        raise UserError(f"{where}: save_to_disk wrote it; write it with to_parquet instead")
    if not folder.is_dir():
        files = hub.list_files("dataset", name)
        if files is None:  # datasets would ask for half a minute before it looks into the cache
            huggingface_hub.constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
        elif described := [file for file in files if file in DESCRIPTIONS]:
            download.fetch(where, "dataset", name, described)
    return datasets.load_dataset_builder(name)


def train_split(splits: dict, where: str):
    """The train split. Raises UserError if there is none."""
    if "train" not in splits:
        names = ", ".join(map(str, splits))
        raise UserError(f"{where}: it has no train split, only {names}; save the split as .jsonl and name the file")
    return splits["train"]


@contextlib.contextmanager
def readable(where: str) -> Iterator[None]:
    """Raises what datasets raises while it reads as a UserError that begins with `where`."""
    import datasets
    from huggingface_hub import utils as errors

    try:
        yield
    except (
        errors.RepositoryNotFoundError,
        errors.HFValidationError,
        getattr(datasets.exceptions, "DatasetNotFoundError", errors.RepositoryNotFoundError),
    ):
        raise UserError(
            f"{where}: neither a file or folder nor a public dataset on the hub has this name; correct it"
        ) from None
    except UserError:
        raise
    except download.network_errors() as error:
        raise UserError(
            f"{where}: it is not in the cache, and the hub cannot be reached ({type(error).__name__}); {hub.WAYS_OUT}, "
            f"or take the demo's rows: --data-path demo/train.jsonl"
        ) from None
    except Exception as error:  # errors of any type, which its readers raise about the files
        cause = error.__cause__ or error
        if getattr(cause, "errno", None) in FIXABLE:
            raise cause from None
        raise UserError(
            f"{where}: datasets cannot read it: {type(cause).__name__}: {cause}; correct it (for a single .jsonl or "
            f".csv file, python -m sqlora.data FILE reports the line)"
        ) from None


def _fetch_data_files(data_files: dict[str, list[str]], where: str) -> None:
    """Downloads the files of a hub dataset that datasets is about to read into its cache, and checks them."""
    from huggingface_hub import HfFileSystem

    files: dict[tuple[str, str], list[str]] = {}
    for url in (url for urls in data_files.values() for url in urls if url.startswith("hf://datasets/")):
        file: Any = HfFileSystem().resolve_path(url)
        files.setdefault((file.repo_id, file.revision), []).append(glob.escape(file.path_in_repo))
    for (repo, revision), names in files.items():
        download.fetch(where, "dataset", repo, names, revision=revision)
