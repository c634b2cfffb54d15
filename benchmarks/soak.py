"""A long run: does finetune.py's or generate.py's memory or its number of open files grow?

    python benchmarks/soak.py [--steps 2000] [--save-steps 20]
    python benchmarks/soak.py --answers 20000

finetune.py --preset tiny on one thread of a CPU, an evaluation and a checkpoint every 20 steps; or generate.py with the
adapter of 60 such steps, over the demo's test rows again and again. Once a second it reads from /proc (Linux) the
resident memory and the open files, and compares those after step 200, or a tenth of the answers, with those at the end.
Exits with 1 if memory grew by more than 3 %, or files at all.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent
SETTLED = 200  # steps, after which nothing new is to be kept
MOST_GROWTH = 0.03


def observe(process: subprocess.Popen, progress: Callable[[], int]) -> list[tuple[int, float, int]]:
    """What is done so far, resident MB and open files, once a second until the process ends."""
    seen = []
    proc, page = Path("/proc", str(process.pid)), os.sysconf("SC_PAGE_SIZE")
    while process.poll() is None:
        time.sleep(1)
        try:
            done = progress()
            seen.append(
                (done, int((proc / "statm").read_text().split()[1]) * page / 1e6, len(list((proc / "fd").iterdir())))
            )
        except (OSError, IndexError, ValueError):  # not begun, or ending
            continue
    return seen


def start(script: str, work: Path, *flags: object) -> subprocess.Popen:
    command = [
        sys.executable,
        ROOT / script,
        "--preset",
        "tiny",
        "--device",
        "cpu",
        "--no-evaluate",
        "--checkpoint-dir",
        work / "run",
        "--model-path",
        work / "adapter",
        *flags,
    ]
    return subprocess.Popen(list(map(str, command)), env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=sys.stderr)


def train(work: Path, steps: int, save_steps: int) -> tuple[subprocess.Popen, list]:
    process = start(
        "finetune.py",
        work,
        "--max-steps",
        steps,
        "--eval-steps",
        save_steps,
        "--save-steps",
        save_steps,
        "--validation-rows",
        16,
    )
    metrics = work / "run" / "metrics.jsonl"
    return process, observe(process, lambda: json.loads(metrics.read_text().splitlines()[-1])["step"])


def answer(work: Path, answers: int) -> tuple[subprocess.Popen, list]:
    if start("finetune.py", work).wait():
        raise SystemExit("the adapter could not be trained")
    rows = (ROOT / "demo" / "test.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (work / "rows.jsonl").write_text("".join(itertools.islice(itertools.cycle(rows), answers)), encoding="utf-8")
    process = start(
        "generate.py", work, "--model", "adapter", "--test-data", work / "rows.jsonl", "--output", work / "out.jsonl"
    )
    kept = work / "run" / ".answers"
    seen = observe(process, lambda: sum(file.read_bytes().count(b"\n") for file in kept.glob("*.jsonl")))
    print(f"{(work / 'out.jsonl').read_bytes().count(10):,} answers written")
    return process, seen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--save-steps", type=int, default=20)
    parser.add_argument("--answers", type=int, default=0)
    given = parser.parse_args()
    if not given.answers and given.steps < 2 * SETTLED:
        parser.error(f"--steps is to be at least {2 * SETTLED}")
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        process, seen = answer(work, given.answers) if given.answers else train(work, given.steps, given.save_steps)
    since = given.answers // 10 or SETTLED
    settled = [one for one in seen if one[0] > since]
    tenth = max(1, len(settled) // 10)
    first, last = settled[:tenth], settled[-tenth:]
    memory, files = ([statistics.median(one[column] for one in part) for part in (first, last)] for column in (1, 2))
    growth = memory[1] / memory[0] - 1
    most = max(done for done, _, _ in seen)
    print(
        f"{most:,} {'answers' if given.answers else 'steps'}, {time.monotonic() - begun:.0f} s, exit status "
        f"{process.returncode}"
    )
    print(f"resident memory after {since:,}: {memory[0]:.0f} MB, at the end {memory[1]:.0f} MB ({growth:+.1%})")
    print(f"open files: {files[0]:.0f}, at the end {files[1]:.0f}")
    return int(process.returncode != 0 or growth > MOST_GROWTH or files[1] > files[0])


if __name__ == "__main__":
    sys.exit(main())
