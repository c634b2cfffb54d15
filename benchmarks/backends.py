"""The demo's 60 steps with each backend, each in its own environment: seconds, peak memory, loss; medians of
alternating runs.

python benchmarks/backends.py --bigdl-llm .venv-bigdl/bin/python --ipex-llm .venv-ipex-llm/bin/python
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIGDL = ("--backend", "bigdl", "--low-bit", "sym_int4")
FLAGS = {"bitsandbytes": (), "bitsandbytes, padded": ("--packing", "off"), "bigdl-llm": BIGDL, "ipex-llm": BIGDL}
FIGURES = ("train_seconds", "peak_memory_bytes", "rows_per_second", "loss", "best_eval_loss")


def measure(python: str, flags: tuple[str, ...]) -> dict[str, float]:
    """The metrics of one run of finetune.py."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            python,
            str(ROOT / "finetune.py"),
            "--preset",
            "tiny",
            "--checkpoint-dir",
            f"{folder}/run",
            "--model-path",
            f"{folder}/adapter",
            *flags,
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        metrics = json.loads(Path(folder, "adapter", "sqlora.json").read_text())["metrics"]
    return {name: metrics[name] for name in FIGURES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("bitsandbytes", "bigdl-llm", "ipex-llm"):
        parser.add_argument(f"--{name}", metavar="PYTHON", default=sys.executable if name == "bitsandbytes" else None)
    parser.add_argument("--runs", type=int, default=3)
    arguments = {name.replace("_", "-"): value for name, value in vars(parser.parse_args()).items()}
    pythons = {name: python for name in FLAGS if (python := arguments[name.partition(",")[0]])}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in pythons}
    for _ in range(arguments["runs"]):
        for name, python in pythons.items():
            found[name].append(measure(python, FLAGS[name]))
    print(
        "| backend | seconds | rows/s | peak memory | loss of the last 5 steps | evaluation loss "
        "|\n|---|---|---|---|---|---|"
    )
    for name, runs in found.items():
        middle = {figure: statistics.median(run[figure] for run in runs) for figure in FIGURES}
        print(
            f"| {name} | {middle['train_seconds']:.1f} | {middle['rows_per_second']:.1f} | "
            f"{middle['peak_memory_bytes'] / 1e9:.2f} GB | {middle['loss']:.4f} | {middle['best_eval_loss']:.4f} |"
        )


if __name__ == "__main__":
    main()
