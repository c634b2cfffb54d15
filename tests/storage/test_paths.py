"""Paths written out in full, and what two of them are to each other."""

import os

import pytest

from sqlora.storage import paths
from sqlora.system.errors import UserError


def test_a_tilde_is_a_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert paths.expand("~/runs", "X") == "/home/me/runs"
    assert paths.expand("~", "X") == "/home/me"
    assert paths.expand("a/~/b", "X") == "a/~/b"
    with pytest.raises(UserError, match=r"X \(--x\) is '~nosuchuser/a'.*'~nosuchuser' is not known.*\./~nosuchuser/a"):
        paths.expand("~nosuchuser/a", "X (--x)")
    for blank in ("", "  "):
        with pytest.raises(UserError, match=r"X \(--x\) is blank"):
            paths.expand(blank, "X (--x)")


def test_two_ways_to_one_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("x")
    (tmp_path / "link").symlink_to("folder")
    os.link(tmp_path / "folder" / "file", tmp_path / "hard")
    for way in ("folder/file", "link/file", "folder/../link/../folder/file", "hard", "./folder//file"):
        assert paths.same(way, tmp_path / "folder" / "file"), way
        assert not paths.same(way, tmp_path / "folder")
    assert paths.same("link/new", "folder/new")  # neither is there
    assert not paths.same("link/new", "folder/newer")


def test_what_is_within_a_folder(tmp_path):
    (tmp_path / "run" / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to("run/sub")
    (tmp_path / "round").symlink_to("round")
    run = tmp_path / "run"
    assert paths.entry_within(run, run) == ""
    assert paths.entry_within(tmp_path / "link" / "a" / "b", run) == "sub"
    assert paths.entry_within(run / "new" / "a", run) == "new"
    assert paths.entry_within(tmp_path / "runs", run) is None
    assert paths.entry_within(run / ".." / "x", run) is None
    assert paths.entry_within(tmp_path / "round", run) is None
