"""Losses of packed and padded runs in bfloat16: the same rows in the same order, and padded again in another order.

Rows come at random, as trees have them by default, since padded rows are otherwise grouped by length.

    python benchmarks/loss_curves.py [--packing prefix] [--steps 100] [--picture benchmarks/loss_curves.png]
    [finetune.py's flags]

Three runs of finetune.py, with the demo's model and data unless the flags say otherwise. Prints how far apart the
losses of a step are: packed from padded, and padded from padded in another order, which is the spread that chance
makes.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
FINETUNE = """
import runpy
from sqlora.training import samplers
samplers.make_sampler = lambda rows, form, settings: samplers.Shuffled(rows, settings.SEED, settings.BATCH_SIZE)
runpy.run_path("finetune.py", run_name="__main__")
"""


def losses(steps: int, flags: list[str]) -> list[float]:
    with tempfile.TemporaryDirectory() as work:
        command = [
            sys.executable,
            "-c",
            FINETUNE,
            "--preset",
            "tiny",
            "--lora-dropout",
            "0",
            "--max-steps",
            steps,
            "--logging-steps",
            "1",
            "--eval-steps",
            steps,
            "--save-steps",
            steps,
            "--checkpoint-dir",
            f"{work}/run",
            "--model-path",
            f"{work}/adapter",
            *flags,
        ]
        subprocess.run(list(map(str, command)), check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        entries = [json.loads(line) for line in Path(work, "run", "metrics.jsonl").read_text().splitlines()]
    return [entry["loss"] for entry in entries if "loss" in entry]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packing", default="prefix")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--picture", type=Path, default=ROOT / "benchmarks" / "loss_curves.png")
    arguments, flags = parser.parse_known_args()
    runs = {
        "padded": ["--packing", "off"],
        f"packed ({arguments.packing}), same order": ["--packing", arguments.packing],
        "padded, another order": ["--packing", "off", "--seed", "43"],
    }
    with ThreadPoolExecutor() as pool:
        runs = dict(
            zip(runs, pool.map(lambda form: losses(arguments.steps, [*form, *flags]), runs.values()), strict=True)
        )
    padded, packed, other = runs.values()
    for name, one in (("packed from padded", packed), ("padded in another order from padded", other)):
        apart = [abs(a - b) for a, b in zip(one, padded, strict=True)]
        print(f"{name}: mean distance of a step's losses {statistics.mean(apart):.4f}, greatest {max(apart):.4f}")

    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), dpi=150, layout="constrained")
    axes = figure.subplots()
    for (name, one), style in zip(runs.items(), ("-", "--", ":"), strict=True):
        axes.plot(range(1, len(one) + 1), one, style, linewidth=1.4, label=name)
    axes.set(xlabel="step", ylabel="training loss", yscale="log")
    axes.legend(frameon=False)
    axes.grid(color="#e3e6ea", linewidth=0.7)
    figure.savefig(arguments.picture)


if __name__ == "__main__":
    main()
