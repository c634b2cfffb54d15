"""A real terminal for tests: a tmux server of the test's own, whose screen is read as a user reads it."""

import contextlib
import shlex
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import patience


def missing() -> str:
    return "" if shutil.which("tmux") else "tmux is not installed: apt-get install tmux"


class Terminal:
    """200 columns, 50 lines, in which one command runs."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        # written by the shell: tmux sometimes misses the end of what it started
        self.ended = socket.with_name("status")

    def tmux(self, *arguments: str) -> str:
        return subprocess.run(
            ["tmux", "-f", "/dev/null", "-S", str(self.socket), *arguments], check=True, capture_output=True, text=True
        ).stdout

    def type(self, text: str = "", *keys: str) -> None:
        """Types `text`, and then keys by tmux's names: Enter, Tab, C-c."""
        if text:
            self.tmux("send-keys", "-l", "--", text)
        if keys:
            self.tmux("send-keys", *keys)

    def paste(self, text: str) -> None:
        """Pastes `text` as a terminal does that says where a paste begins and ends."""
        self.tmux("set-buffer", "--", text)
        self.tmux("paste-buffer", "-p", "-r")

    def screen(self) -> str:
        """All lines so far, those that scrolled away too."""
        return self.tmux("capture-pane", "-p", "-J", "-S", "-").rstrip()

    def wait(self, *texts: str, last: str = "") -> str:
        """Waits until all `texts` stand on the screen, and the last line begins with `last`; gives the screen."""
        end = time.monotonic() + patience.SECONDS
        has_ended = False
        while time.monotonic() < end and not has_ended:
            has_ended = self.ended.exists()
            screen = self.screen()
            lines = screen.splitlines() or [""]
            if all(text in screen for text in texts) and f"{lines[-1]}\n".startswith(last):
                return screen
            time.sleep(0.05)
        raise AssertionError(f"{texts} and {last!r} do not stand on the screen:\n{self.screen()}")

    def wait_for_line(self, line: str) -> str:
        """Waits until the last line is `line` and no more, as after Ctrl-C, where a prompt begins again; gives the
        screen.
        """
        return self.wait(last=f"{line}\n")

    def status(self) -> int:
        """The exit status of the command, once it has ended."""
        end = time.monotonic() + patience.SECONDS
        while time.monotonic() < end:
            if self.ended.exists() and (status := self.ended.read_text().strip()):
                return int(status)
            time.sleep(0.05)
        raise AssertionError(f"it goes on:\n{self.screen()}")


@contextlib.contextmanager
def terminal(command: list[str], folder: Path, **environment: str):
    """A Terminal in which `command` runs; what it leaves running is ended."""
    with tempfile.TemporaryDirectory(prefix="sqlora-") as place:
        term = Terminal(Path(place, "tmux"))
        variables = [part for name, value in environment.items() for part in ("-e", f"{name}={value}")]
        script = f'"$@"; echo $? >{shlex.quote(str(term.ended))}'
        term.tmux(
            "new-session",
            "-d",
            "-x",
            "200",
            "-y",
            "50",
            "-c",
            str(folder),
            *variables,
            "sh",
            "-c",
            script,
            "sh",
            *command,
            ";",
            "set-option",
            "-w",
            "remain-on-exit",
            "on",
        )
        try:
            yield term
        finally:
            term.tmux("kill-server")
