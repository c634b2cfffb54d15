"""Training speed and memory of one GPU: finetune.py's packings against the original script, Unsloth and TRL.

    python benchmarks/training.py --rows ROWS.jsonl --tokenizer TOKENIZER.model [--shape codellama-7b] [--only NAME ...]
                                  [--json OUT]

A model of the shape with random weights is made first. Every variant is a process of its own with the same rows; a peer
that is not installed, or that fails, is named and left out. A variant whose losses are not finite or do not fall does
not count. Prints a table and, with --json, writes the figures with the machine's name.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import full_size

ROOT = full_size.ROOT
BARE = ("--gradient-accumulation-steps", "1", "--lora-dropout", "0")
OURS = {  # flags of finetune.py
    "padded, checkpointing": ("--packing", "off", "--compile", "off", "--gradient-checkpointing"),
    "padded": ("--packing", "off", "--compile", "off"),
    "padded + compile": ("--packing", "off", "--compile", "on"),
    "prefix": ("--packing", "prefix", "--compile", "off"),
    "tree, 32": ("--packing", "tree", "--compile", "off"),
    "tree + compile, 32": ("--packing", "tree", "--compile", "on"),
    "tree + compile, 64": ("--packing", "tree", "--compile", "on", "--batch-size", "64"),
    "tree + compile, 128": ("--packing", "tree", "--compile", "on", "--batch-size", "128"),
    "tree + compile, 160": ("--packing", "tree", "--compile", "on", "--batch-size", "160"),
    "tree + compile, 160, schema first": (
        "--packing",
        "tree",
        "--compile",
        "on",
        "--batch-size",
        "160",
        "--prompt-order",
        "schema_first",
    ),
}
OURS = {name: BARE + flags for name, flags in OURS.items()}
OURS |= {"default": (), "default, no dropout": ("--lora-dropout", "0")}
LOGGING_STEPS = 4  # a step whose loss is logged is waited for
PEERS = {  # name and rows in a batch, as benchmarks/peers.py takes them
    "the original script, 32": ("original", 32),
    "Unsloth, 32": ("unsloth", 32),
    "Unsloth, 128": ("unsloth", 128),
    "Unsloth, packing, 32": ("unsloth-packed", 32),
    "Unsloth, packing, 128": ("unsloth-packed", 128),
    "TRL, packing, 32": ("trl", 32),
    "TRL, packing, 64": ("trl", 64),
}


def finetune(model: Path, rows: Path, work: Path, steps: int, flags: tuple[str, ...], timeout: float) -> dict:
    """What finetune.py with these flags logged, without the first steps, in which it compiles."""
    command = [
        sys.executable,
        ROOT / "finetune.py",
        "--base-model",
        model,
        "--data-path",
        rows,
        "--no-gradient-checkpointing",
        "--learning-rate",
        "1e-4",
        "--warmup-steps",
        "4",
        "--max-steps",
        steps,
        "--logging-steps",
        LOGGING_STEPS,
        "--eval-steps",
        steps,
        "--save-steps",
        steps,
        "--validation-rows",
        "16",
        "--check-data",
        "off",
        "--checkpoint-dir",
        work / "run",
        "--model-path",
        work / "adapter",
        *flags,
    ]
    subprocess.run(list(map(str, command)), check=True, stdout=sys.stderr, timeout=timeout)
    logged = [json.loads(line) for line in (work / "run" / "metrics.jsonl").read_text().splitlines()]
    entries = [entry for entry in logged if "loss" in entry]
    steady = [entry["rows_per_second"] for entry in entries[len(entries) // 2 :]]
    return {
        "rows_per_second": round(statistics.harmonic_mean(steady), 1),
        "peak_memory_gb": round(max(entry["peak_memory_bytes"] for entry in entries) / 1e9, 2),
        "losses": [round(entry["loss"], 4) for entry in entries],
    }


def peer(model: Path, rows: Path, name: str, batch_size: int, steps: int, timeout: float, path: str | None) -> dict:
    command = [
        sys.executable,
        Path(__file__).with_name("peers.py"),
        name,
        "--model",
        model,
        "--rows",
        rows,
        "--batch-size",
        batch_size,
        "--steps",
        steps,
    ]
    environment = os.environ | ({"PYTHONPATH": path} if path else {})
    done = subprocess.run(
        list(map(str, command)), env=environment, check=True, stdout=subprocess.PIPE, text=True, timeout=timeout
    )
    return json.loads(done.stdout.splitlines()[-1])


def matrix_rate() -> float:
    """bfloat16 FLOP/s of this device in products of 8192 x 8192 matrices, the best of three."""
    import torch

    size, device = 8192, torch.accelerator.current_accelerator()
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = math.inf
    for _ in range(4):
        torch.accelerator.synchronize()
        start = time.perf_counter()
        for _ in range(20):
            left @ right
        torch.accelerator.synchronize()
        best = min(best, (time.perf_counter() - start) / 20)
    return 2 * size**3 / best


def measure(arguments, model: Path) -> dict[str, dict]:
    found = {}
    for name in arguments.only or [*OURS, *PEERS]:
        start = time.perf_counter()
        try:
            with tempfile.TemporaryDirectory() as work:
                if name in OURS:
                    figures = finetune(
                        model, arguments.rows, Path(work), arguments.steps, OURS[name], arguments.timeout
                    )
                else:
                    figures = peer(
                        model, arguments.rows, *PEERS[name], arguments.steps, arguments.timeout, arguments.peers_path
                    )
        except (subprocess.SubprocessError, OSError) as error:
            print(f"{name}: {type(error).__name__}, passed over", flush=True)
            continue
        losses = figures["losses"]
        half = len(losses) // 2
        figures["counts"] = all(map(math.isfinite, losses)) and statistics.mean(losses[half:]) < statistics.mean(
            losses[:half]
        )
        found[name] = figures | {"seconds": round(time.perf_counter() - start, 1)}
        print(json.dumps({name: found[name]}), flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(found, indent=2) + "\n")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True, help="a Llama's tokenizer.model of 32,000 pieces")
    parser.add_argument("--shape", choices=full_size.SHAPES, default="codellama-7b")
    parser.add_argument(
        "--model", type=Path, help="a folder where the model is made, or was, instead of a temporary one"
    )
    parser.add_argument("--only", nargs="+", choices=[*OURS, *PEERS])
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--timeout", type=float, default=240, help="seconds for a variant")
    parser.add_argument("--peers-path", help="PYTHONPATH of the peers, which may want older libraries")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    arguments.rows = arguments.rows.resolve()
    with tempfile.TemporaryDirectory() as temporary:
        model = arguments.model or Path(temporary) / "model"
        if not (model / "config.json").is_file():
            subprocess.run(
                [
                    sys.executable,
                    "-c",
                    "import sys; from pathlib import Path; from benchmarks import full_size; "
                    "full_size.make_model(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))",
                    model,
                    arguments.shape,
                    arguments.tokenizer.resolve(),
                ],
                check=True,
                cwd=ROOT,
            )
            # Peers want the tokenizer in the tokenizers library's form.
            from transformers import LlamaTokenizer

            LlamaTokenizer.from_pretrained(model).save_pretrained(model)
        rate = matrix_rate()
        found = measure(arguments, model)
    machine = full_size.machine()
    print(f"\n{machine}, {arguments.shape}, matrix products {rate / 1e12:.0f} TFLOP/s")
    print("\n| variant | rows/s | peak GB | first, last loss |\n|---|---|---|---|")
    for name, figures in found.items():
        losses = f"{figures['losses'][0]}, {figures['losses'][-1]}" + ("" if figures["counts"] else " (does not count)")
        print(f"| {name} | {figures['rows_per_second']} | {figures['peak_memory_gb']} | {losses} |")
    if arguments.json:
        report = {"machine": machine, "shape": arguments.shape, "matrix_flop_per_second": rate, "variants": found}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    main()
