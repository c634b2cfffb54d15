"""What the user can mend is one line, whatever is in it; a bug keeps its traceback."""

import signal

import pytest

from sqlora.system import errors
from sqlora.system.errors import LONGEST, UserError, exit_on_user_error


def test_a_message_is_one_line_that_a_terminal_can_show():
    assert str(UserError("a\n  b\x1b[31m\0 é 🙂 \ud800")) == "a b\\x1b[31m\\x00 é 🙂 \\ud800"


def test_a_long_message_keeps_both_ends():
    message = str(UserError(f"BATCH_SIZE is {'9' * 5000}; it must be less"))
    assert len(message) < LONGEST + 10
    assert message.startswith("BATCH_SIZE is 999")
    assert message.endswith("999; it must be less")


@pytest.fixture(autouse=True)
def handlers():
    """Signals are handled as before, after each test: a script that ends ignores them."""
    numbers = [number for number in (signal.SIGINT, signal.SIGTERM, errors.HANG_UP) if number is not None]
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (UserError("mend this"), 2, "error: mend this\n"),
        (
            OSError(28, "No space left on device", "adapter.bin"),
            2,
            "error: adapter.bin: the disk is full; free some space\n",
        ),
        (
            OSError(27, "File too large"),
            2,
            "error: File too large: no file may be so large; raise the limit (ulimit -f), or choose "
            "another file system\n",
        ),
        (
            OSError(30, "Read-only file system", "x"),
            2,
            "error: x: the file system is read-only; choose another folder\n",
        ),
        (OSError(122, "Disk quota exceeded", "x"), 2, "error: x: the disk quota is used up; free some space\n"),
        (
            OSError(40, "Too many links", "x"),
            2,
            "error: x: its links form a circle; fix them, or choose another path\n",
        ),
        (KeyboardInterrupt(), 130, "stopped\n"),
    ],
)
def test_what_the_user_can_fix_ends_without_a_traceback(capsys, error, status, message):
    with pytest.raises(SystemExit) as stop, exit_on_user_error():
        raise error
    assert (stop.value.code, capsys.readouterr().err) == (status, message)


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), exit_on_user_error():
        raise ZeroDivisionError


def test_a_working_folder_that_was_deleted_is_one_line(capsys, monkeypatch, tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with pytest.raises(SystemExit) as ended, exit_on_user_error():
        raise AssertionError("the command ran")
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: the working folder was deleted; cd to another one\n"
