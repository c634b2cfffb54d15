"""What of an earlier run is in CHECKPOINT_DIR: set aside, whatever it is, and lost never."""

import json
import os
import shutil
from pathlib import Path

import pytest

from sqlora.settings.command_line import load_settings
from sqlora.storage import checkpoints
from sqlora.system.errors import UserError
from sqlora.training import run_folder

FINGERPRINT = {
    "base_model": {"content": "b"},
    "data": {"hash": "d"},
    "prompt": "p",
    "tokenizer": "t",
    "weights": "",
    "files": {},
    "written": "2026-01-01T00:00:00+00:00",
}


def begin(settings):
    return run_folder.begin(settings.CHECKPOINT_DIR, settings.RESUME, settings.MAX_STEPS, FINGERPRINT)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def run(make_settings):
    """A folder with the metrics and a checkpoint of a run, and its settings."""
    settings = make_settings("--max-steps", "20")
    run_folder.check_outputs(settings)
    folder = Path(settings.CHECKPOINT_DIR)
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    (folder / "checkpoint-4").mkdir()
    sealed = FINGERPRINT | {"settings": settings.as_dict()}
    (folder / "checkpoint-4" / checkpoints.FINGERPRINT).write_text(json.dumps(sealed))
    return settings, folder


def test_an_earlier_run_that_was_copied_back_is_set_aside_again(run):
    settings, folder = run
    for number in (1, 2, 3):
        run_folder.check_outputs(settings)
        begin(settings)
        kept = sorted((folder / "earlier").iterdir())
        assert len(kept) == number
        assert all(names(one) == {"metrics.jsonl", "checkpoint-4"} for one in kept)
        assert names(folder) == {"earlier"}
        shutil.copytree(kept[0], folder, dirs_exist_ok=True)  # with its times, as cp -p


def test_an_earlier_run_that_was_moved_back(run):
    settings, folder = run
    begin(settings)
    (kept,) = (folder / "earlier").iterdir()
    for path in [*kept.iterdir()]:
        path.rename(folder / path.name)
    begin(settings)
    assert sum(len(names(one)) for one in (folder / "earlier").iterdir()) == 2


def test_a_file_of_the_far_future_is_set_aside_too(run):
    settings, folder = run
    os.utime(folder / "metrics.jsonl", (1e11, 2**33))
    os.utime(folder / "checkpoint-4", (1e12, 1e12))  # the year 33658, where the file system has it
    begin(settings)
    assert names(folder) == {"earlier"}


def put(path: Path, kind: str, elsewhere: Path) -> None:
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
        (path / "kept").write_text("mine")
    else:
        path.symlink_to({"dangling link": "nowhere", "loop": path.name, "link": elsewhere}[kind])


@pytest.mark.parametrize("kind", ["file", "folder", "dangling link", "loop", "link"])
def test_whatever_is_called_a_checkpoint_is_set_aside(run, tmp_path, kind):
    settings, folder = run
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").write_text("mine")
    put(folder / "checkpoint-9", kind, tmp_path / "elsewhere")
    run_folder.check_outputs(settings)
    assert checkpoints.newest(folder).name == "checkpoint-4"
    begin(settings)
    (aside,) = (folder / "earlier").iterdir()
    assert names(aside) == {"metrics.jsonl", "checkpoint-4", "checkpoint-9"}
    assert (tmp_path / "elsewhere" / "kept").read_text() == "mine"


@pytest.mark.parametrize("kind", ["file", "folder", "dangling link", "loop", "link"])
def test_a_run_that_is_resumed_sets_aside_what_it_would_write_over_or_delete(run, make_settings, tmp_path, kind):
    _, folder = run
    (tmp_path / "elsewhere").mkdir()
    put(folder / "checkpoint-8", kind, tmp_path / "elsewhere")
    resumed = make_settings("--resume", "--max-steps", "20")
    run_folder.check_outputs(resumed)
    assert begin(resumed).name == "checkpoint-4"
    (aside,) = (folder / "earlier").iterdir()
    assert names(aside) == {"checkpoint-8"}
    assert names(folder) == {"earlier", "metrics.jsonl", "checkpoint-4"}


def test_a_run_that_is_resumed_takes_its_folders_and_nothing_to_ask(run, make_settings, tmp_path):
    _, folder = run
    file = folder / "checkpoint-4" / checkpoints.FINGERPRINT
    sealed = json.loads(file.read_text())
    evil = {"OUTPUT": "/etc/passwd", "QUESTION": "evil", "LORA_CHECKPOINT": "evil"}
    sealed["settings"] |= evil | {"MODEL_PATH": str(tmp_path / "m")}
    file.write_text(json.dumps(sealed))
    resumed = load_settings(["--resume", "--checkpoint-dir", str(folder)], "")
    assert (resumed.OUTPUT, resumed.QUESTION, resumed.LORA_CHECKPOINT) == ("", "", "latest")
    assert (resumed.MODEL_PATH, resumed.DEVICE, resumed.MAX_STEPS) == (str(tmp_path / "m"), "cpu", 20)


def test_a_home_folder_given_again_to_a_run_that_is_resumed_is_the_same_path(run, monkeypatch, tmp_path):
    _, folder = run
    monkeypatch.setenv("HOME", str(tmp_path))
    file = folder / "checkpoint-4" / checkpoints.FINGERPRINT
    sealed = json.loads(file.read_text())
    sealed["settings"]["DATA_PATH"] = str(tmp_path / "rows.jsonl")
    file.write_text(json.dumps(sealed))
    load_settings(["--resume", "--checkpoint-dir", "~/lora_models", "--data-path", "~/rows.jsonl"], "")
    with pytest.raises(UserError, match="DATA_PATH"):
        load_settings(["--resume", "--checkpoint-dir", "~/lora_models", "--data-path", "~/other.jsonl"], "")
