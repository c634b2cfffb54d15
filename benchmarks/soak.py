"""A long run: does finetune.py's memory or its number of open files grow?

    python benchmarks/soak.py [--steps 2000] [--save-steps 20]

finetune.py --preset tiny on one thread of a CPU, an evaluation and a checkpoint every 20 steps. Once a second it reads from /proc
(Linux) the resident memory and the open files, and compares those after step 200 with those at the end. Exits with 1 if memory
grew by more than 3 %, or files at all.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
SETTLED = 200  # steps, after which nothing new is to be kept
MOST_GROWTH = 0.03


def observe(process: subprocess.Popen, metrics: Path) -> list[tuple[int, float, int]]:
    """The last logged step, resident MB and open files, once a second until the process ends."""
    seen = []
    proc, page = Path("/proc", str(process.pid)), os.sysconf("SC_PAGE_SIZE")
    while process.poll() is None:
        time.sleep(1)
        try:
            step = json.loads(metrics.read_text().splitlines()[-1])["step"]
            seen.append((step, int((proc / "statm").read_text().split()[1]) * page / 1e6, len(list((proc / "fd").iterdir()))))
        except (OSError, IndexError, ValueError):  # not begun, or ending
            continue
    return seen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--save-steps", type=int, default=20)
    given = parser.parse_args()
    if given.steps < 2 * SETTLED:
        parser.error(f"--steps is to be at least {2 * SETTLED}")
    with tempfile.TemporaryDirectory() as name:
        run = Path(name, "run")
        start = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, ROOT / "finetune.py", "--preset", "tiny", "--device", "cpu", "--max-steps", str(given.steps),
             "--eval-steps", str(given.save_steps), "--save-steps", str(given.save_steps), "--validation-rows", "16",
             "--no-evaluate", "--checkpoint-dir", run, "--model-path", Path(name, "adapter")],
            env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=sys.stderr)
        seen = observe(process, run / "metrics.jsonl")
    settled = [one for one in seen if one[0] > SETTLED]
    tenth = max(1, len(settled) // 10)
    first, last = settled[:tenth], settled[-tenth:]
    memory, files = ([statistics.median(one[column] for one in part) for part in (first, last)] for column in (1, 2))
    growth = memory[1] / memory[0] - 1
    print(f"{seen[-1][0]} steps, {seen[-1][0] // given.save_steps} checkpoints, {time.monotonic() - start:.0f} s, exit status "
          f"{process.returncode}")
    print(f"resident memory after step {SETTLED}: {memory[0]:.0f} MB, at the end {memory[1]:.0f} MB ({growth:+.1%})")
    print(f"open files: {files[0]:.0f}, at the end {files[1]:.0f}")
    return int(process.returncode != 0 or growth > MOST_GROWTH or files[1] > files[0])


if __name__ == "__main__":
    sys.exit(main())
