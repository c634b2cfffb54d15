"""Makes the README's pictures from a real run of the demo, in docs/images: `make pictures`. Needs Chromium.

loss.png is the run's own curve, page.png a screenshot of its before/after page, terminal.svg what the terminal showed.
smollm2.png is the curve of the run of benchmarks/quality.py that docs/quality.md has first, from its metrics.jsonl.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from sqlora.reports.loss_curve import plot_loss_curve  # noqa: E402

MEASURED = ROOT / "benchmarks" / "smollm2.jsonl"
IMAGES = ROOT / "docs" / "images"
COLUMNS = 100
COMMANDS = ("finetune.py --preset tiny", "generate.py --preset tiny")


def run(command: str, folder: Path) -> str:
    """What `python COMMAND` wrote, colours and all, without the questions between the first and the last."""
    environment = os.environ | {"FORCE_COLOR": "1", "COLUMNS": str(COLUMNS), "TTY_INTERACTIVE": "0"}
    done = subprocess.run(
        [sys.executable, *[str(ROOT / word) if word.endswith(".py") else word for word in command.split()]],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.replace(f"{ROOT}/", "").splitlines()
    if len(lines) > 40:
        lines = [*lines[:16], "...", *lines[-7:]]
    return "\n".join([f"\x1b[1m$ python {command}\x1b[0m", *lines])


def main() -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("error: the page's picture needs Chromium; install it first")
    IMAGES.mkdir(exist_ok=True)
    plot_loss_curve(MEASURED, IMAGES / "smollm2.png", "Fine-tuning SmolLM2-135M-Instruct")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        terminal = Console(record=True, width=COLUMNS, file=(folder / "terminal").open("w"), force_terminal=True)
        for command in COMMANDS:
            terminal.print(Text.from_ansi(run(command, folder)))
        svg = terminal.export_svg(title="SQLoRA: the demo on two CPU cores")
        svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # a picture that fetches nothing
        (IMAGES / "terminal.svg").write_text(svg, encoding="utf-8")
        made = folder / "lora_models" / "tiny"
        shutil.copy(made / "loss.png", IMAGES / "loss.png")
        subprocess.run(
            [
                browser,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--hide-scrollbars",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                f"--user-data-dir={folder / 'profile'}",
                "--window-size=1100,1000",
                f"--screenshot={IMAGES / 'page.png'}",
                (made / "before_after.html").as_uri(),
            ],
            check=True,
            capture_output=True,
        )


if __name__ == "__main__":
    main()
