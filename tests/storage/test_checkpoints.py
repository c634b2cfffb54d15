"""Checkpoints: killed at any instant of saving, the newest one loads; nothing in them can run code."""

import json
import os
import pickle
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers.trainer_pt_utils import safe_globals

from sqlora.storage import atomic, checkpoints
from sqlora.system.errors import UserError

KILLS = int(os.environ.get("KILLS", "100"))


def save_for_ever(trainer, pipe: int) -> None:
    """Checkpoint after checkpoint, the number of each written to the pipe `pipe` once it is saved. Does not return."""
    torch.set_num_threads(1)  # a forked process has no others
    try:
        while True:
            trainer.state.global_step += 1
            trainer._save_checkpoint(trainer.model, None)
            os.write(pipe, b"%d\n" % trainer.state.global_step)
    finally:
        os._exit(1)


def load(checkpoint: Path) -> None:
    """All that going on from it reads; torch's files by a reader that makes nothing but tensors and plain values."""
    load_file(checkpoint / checkpoints.WEIGHTS)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        with safe_globals():
            torch.load(checkpoint / name, weights_only=True)
    for name in ("trainer_state.json", "progress.json", "adapter_config.json"):
        json.loads((checkpoint / name).read_text())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="it kills forks of the test's process, and this system has none")
def test_a_run_killed_at_any_instant_of_saving_leaves_a_newest_checkpoint_that_loads(make_trainer):
    """KILLS=1000 tries more instants than the 100 of the ordinary suite."""
    trainer = make_trainer("--max-steps", "2", "--save-steps", "1", "--eval-steps", "1", "--save-total-limit", "2")
    trainer.train()
    run, chance = Path(trainer.args.output_dir), random.Random(0)
    amid = 0
    for _ in range(KILLS):
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            save_for_ever(trainer, writer)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            saved = pipe.readline()  # the process works; from here on it is killed anywhere in the next saves
            time.sleep(chance.uniform(0, 0.06))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            saved = int((pipe.read() or saved).split()[-1])
        amid += any(run.glob(atomic.PARTIAL + "*"))
        newest = checkpoints.newest(run)
        assert checkpoints.step_of(newest) >= saved
        load(newest)
        atomic.remove_partial(run)
        trainer.state.global_step = checkpoints.step_of(newest)
    print(f"\n{KILLS} kills, {amid} of them with a checkpoint half written")
    assert amid > KILLS // 10


class Trap:
    """Unpickled by a careless reader, it makes a file."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_nothing_in_a_checkpoint_is_run(make_trainer, tmp_path, name):
    flags = ("--max-steps", "2", "--save-steps", "1", "--eval-steps", "1")
    first = make_trainer(*flags)
    first.train()
    checkpoint = checkpoints.newest(Path(first.args.output_dir))
    sprung = tmp_path / "sprung"
    torch.save(Trap(sprung), checkpoint / name)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(checkpoint / name, weights_only=True)
    again = make_trainer("--max-steps", "3", *flags[2:])
    with pytest.raises(UserError, match="is not one that finetune.py wrote"):
        again.train(checkpoint)
    assert not sprung.exists()
    torch.load(checkpoint / name, weights_only=False)
    assert sprung.exists(), "the trap does not work, so the test shows nothing"


@pytest.mark.parametrize("content", ['{"a": ' * 100_000, "[" * 100_000, "[]", "7"])
def test_a_fingerprint_that_is_no_object_is_one_line(tmp_path, content):
    (tmp_path / checkpoints.FINGERPRINT).write_text(content)
    with pytest.raises(UserError, match="damaged"):
        checkpoints.read_fingerprint(tmp_path)
    assert not checkpoints.is_whole(tmp_path)


@pytest.mark.parametrize("kind", ["device", "pipe"])
def test_a_fingerprint_that_is_no_file_is_one_line(tmp_path, kind):
    file = tmp_path / checkpoints.FINGERPRINT
    os.mkfifo(file) if kind == "pipe" else file.symlink_to("/dev/zero")
    with pytest.raises(UserError, match="not a regular file"):
        checkpoints.read_fingerprint(tmp_path)


@pytest.mark.parametrize(
    "way", ["/dev/zero", "../outside", "link to a file", "link to a device", "pipe", "with\0zero", "sub/x"]
)
def test_a_checkpoint_whose_list_leads_out_of_it_is_passed_over(tmp_path, way):
    folder, outside = tmp_path / "checkpoint-5", tmp_path / "outside"
    folder.mkdir()
    (folder / "sub").mkdir()
    for file in (outside, folder / "sub" / "x", folder / checkpoints.WEIGHTS):
        file.write_bytes(b"x")
    name = {"link to a file": "a", "link to a device": "a", "pipe": "a"}.get(way, way)
    if way == "link to a file":
        (folder / "a").symlink_to(outside)
    elif way == "link to a device":
        (folder / "a").symlink_to("/dev/zero")
    elif way == "pipe":
        os.mkfifo(folder / "a")
    digest = checkpoints.file_hash(outside)
    found = {
        "base_model": {},
        "prompt": "",
        "tokenizer": "",
        "weights": digest,
        "written": "",
        "files": {checkpoints.WEIGHTS: digest},
    }
    (folder / checkpoints.FINGERPRINT).write_text(json.dumps(found))
    assert checkpoints.newest(tmp_path) == folder
    (folder / checkpoints.FINGERPRINT).write_text(json.dumps(found | {"files": found["files"] | {name: digest}}))
    assert checkpoints.newest(tmp_path) is None
