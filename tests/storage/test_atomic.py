"""Folders and files are written whole, or stay as they were."""

import contextlib
import errno
import os
import stat
import sys

import pytest
import torch
from safetensors.torch import save_file

from sqlora.storage import atomic
from sqlora.system.errors import UserError


def test_a_new_folder_takes_the_place_of_an_old_one(tmp_path):
    target = tmp_path / "checkpoint-3"
    target.mkdir()
    (target / "old").write_text("1")
    with atomic.new_folder(target) as partial:
        (partial / "new").write_text("2")
        assert [path.name for path in target.iterdir()] == ["old"]
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-3"]


def test_what_fails_leaves_the_old_one(tmp_path):
    target = tmp_path / "checkpoint-3"
    target.mkdir()
    (target / "old").write_text("1")

    def fail():
        with atomic.new_folder(target) as partial:
            (partial / "new").write_text("2")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [path.name for path in target.iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-3"]


def test_files_replace_those_of_their_names_the_last_one_last(tmp_path):
    (tmp_path / "a").write_text("old")
    (tmp_path / "kept").write_text("old")
    with atomic.replacing(tmp_path, last="a") as partial:
        (partial / "a").write_text("new")
        (partial / "b").write_text("new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "new", "b": "new", "kept": "old"}


def test_a_file_keeps_its_mode_and_the_link_to_it(tmp_path):
    target, link = tmp_path / "rows.jsonl", tmp_path / "link"
    target.write_text("old")
    target.chmod(0o600)
    link.symlink_to(target)
    atomic.replace_file(link, lambda partial: partial.write_text("new"))
    assert link.is_symlink()
    assert (target.read_text(), stat.S_IMODE(target.stat().st_mode)) == ("new", 0o600)
    new = tmp_path / "new"
    before = os.umask(0o027)
    try:
        atomic.replace_file(new, lambda partial: partial.write_text("x"))
    finally:
        os.umask(before)
    assert stat.S_IMODE(new.stat().st_mode) == 0o640
    assert {path.name for path in tmp_path.iterdir()} == {"rows.jsonl", "link", "new"}


def test_a_file_that_cannot_be_written_stays(tmp_path):
    target, other = tmp_path / "rows.jsonl", tmp_path / "rows.jsonl.partial"
    target.write_text("old")
    other.write_text("somebody's")

    def fail(partial):
        partial.write_text("half")
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    with pytest.raises(UserError, match=r"rows\.jsonl cannot be written: the disk quota is used up"):
        atomic.replace_file(target, fail)
    with pytest.raises(ZeroDivisionError):
        atomic.replace_file(target, lambda partial: 1 / 0)
    assert (target.read_text(), other.read_text(), len(list(tmp_path.iterdir()))) == ("old", "somebody's", 2)


@contextlib.contextmanager
def largest_file(size: int):
    """What `ulimit -f` sets, in bytes."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b"x" * 100_000),
        lambda path: torch.save(torch.zeros(100_000), path),
        lambda path: save_file({"x": torch.zeros(100_000)}, path),
    ],
    ids=["python", "torch", "safetensors"],
)
def test_a_limit_on_the_size_of_files_is_a_line(tmp_path, write):
    for make in (atomic.new_folder, lambda folder: atomic.replacing(folder, "b")):
        with (
            pytest.raises(UserError, match="ulimit -f.*whole"),
            largest_file(50_000),
            make(tmp_path / "folder") as partial,
        ):
            write(partial / "b")
    with pytest.raises(UserError, match="file cannot be written.*ulimit -f"), largest_file(50_000):
        atomic.replace_file(tmp_path / "file", lambda partial: partial.write_bytes(b"x" * 100_000))
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_a_bug_while_writing_stays_a_bug(tmp_path):
    with pytest.raises(RuntimeError, match="shape"), atomic.new_folder(tmp_path / "x"):
        raise RuntimeError("shape mismatch")
    with pytest.raises(IsADirectoryError), atomic.writing(tmp_path / "x"):
        tmp_path.write_text("x")


@pytest.mark.parametrize("way", ["checkpoint-3", ".partial-checkpoint-3", ".partial-before-checkpoint-3"])
@pytest.mark.parametrize("kind", ["file", "dangling link", "link", "full folder"])
def test_a_new_folder_whatever_is_in_its_way(tmp_path, way, kind):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("x")
    if kind == "file":
        (tmp_path / way).write_text("x")
    elif kind == "full folder":
        (tmp_path / way / "sub").mkdir(parents=True)
    else:
        (tmp_path / way).symlink_to("elsewhere" if kind == "link" else "nowhere")
    with atomic.new_folder(tmp_path / "checkpoint-3") as partial:
        (partial / "new").write_text("2")
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-3", "elsewhere"}
    assert [path.name for path in (tmp_path / "checkpoint-3").iterdir()] == ["new"]
    assert (elsewhere / "kept").read_text() == "x"


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / f"{atomic.PARTIAL}checkpoint-3").mkdir()
    (tmp_path / f"{atomic.PARTIAL}0123").write_text("half")
    (tmp_path / f"{atomic.PARTIAL}link").symlink_to("nowhere")
    (tmp_path / "checkpoint-2").mkdir()
    atomic.remove_partial(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]
