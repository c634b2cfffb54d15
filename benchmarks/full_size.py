"""The main job at full size: finetune.py and generate.py on a model of one of SHAPES.

    python benchmarks/full_size.py --rows ROWS.jsonl --tokenizer TOKENIZER.model [--shape codellama-7b] [--steps 20]

The weights are random, which is right for speed and memory and says nothing of quality. The recipe is config.py's
default; the rows are the ones given. Prints one JSON object: the machine, rows/s, peak memory, and the losses.
"""

import argparse
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
SHAPES = {
    "codellama-7b": {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "vocab_size": 32016,
        "max_position_embeddings": 16384,
        "rope_theta": 1e6,
    },
    "openllama-3b": {
        "hidden_size": 3200,
        "intermediate_size": 8640,
        "num_hidden_layers": 26,
        "num_attention_heads": 32,
        "vocab_size": 32000,
        "max_position_embeddings": 2048,
    },
    "smollm2-135m": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "max_position_embeddings": 8192,
        "rope_theta": 1e5,
        "tie_word_embeddings": True,
    },
}


def make_model(folder: Path, shape: str, tokenizer: Path) -> None:
    """A random Llama in bfloat16, as safetensors, with a bare tokenizer.model."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = dict(SHAPES[shape])
    rope = {"rope_type": "default", "rope_theta": sizes.pop("rope_theta", 1e4)}
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(torch.accelerator.current_accelerator() or "cpu"):
        LlamaForCausalLM(LlamaConfig(**sizes, rope_parameters=rope)).save_pretrained(folder)
    shutil.copy(tokenizer, folder / "tokenizer.model")


def run(script: str, *flags: object) -> float:
    """Seconds that the script took."""
    start = time.perf_counter()
    subprocess.run([sys.executable, ROOT / script, *map(str, flags)], check=True, stdout=sys.stderr)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, required=True, help="training rows, as DATA_PATH takes them")
    parser.add_argument("--tokenizer", type=Path, required=True, help="a Llama's tokenizer.model of 32,000 pieces")
    parser.add_argument("--shape", choices=SHAPES, default="codellama-7b")
    parser.add_argument("--steps", type=int, default=20, help="optimiser steps")
    parser.add_argument("--questions", type=int, default=64, help="questions answered by base and adapter")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        subprocess.run(
            [
                sys.executable,
                "-c",
                "import sys; from pathlib import Path; from benchmarks import full_size; "
                "full_size.make_model(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))",
                work / "model",
                arguments.shape,
                arguments.tokenizer.resolve(),
            ],
            check=True,
            cwd=ROOT,
        )
        questions = work / "questions.jsonl"
        questions.write_text("".join(arguments.rows.read_text().splitlines(keepends=True)[: arguments.questions]))
        flags = [
            "--base-model",
            work / "model",
            "--data-path",
            arguments.rows.resolve(),
            "--test-data",
            questions,
            "--checkpoint-dir",
            work / "run",
            "--model-path",
            work / "adapter",
            "--max-steps",
            arguments.steps,
        ]
        train_seconds = run("finetune.py", *flags, "--logging-steps", 5)
        answer_seconds = run("generate.py", *flags, "--output", work / "answers.jsonl")
        logged = [json.loads(line) for line in (work / "run" / "metrics.jsonl").read_text().splitlines()]
        fingerprint = json.loads((work / "adapter" / "sqlora.json").read_text())
        answers = (work / "answers.jsonl").read_text().splitlines()
    print(
        json.dumps(
            {
                "machine": machine(),
                "shape": arguments.shape,
                "losses": {entry["step"]: entry["loss"] for entry in logged if "loss" in entry},
                "rows_per_second": fingerprint["metrics"]["rows_per_second"],
                "rows_per_second_last": logged[-1].get("rows_per_second"),
                "peak_memory_gb": round(fingerprint["metrics"]["peak_memory_bytes"] / 1e9, 2),
                "finetune_seconds": round(train_seconds, 1),
                "generate_seconds": round(answer_seconds, 1),
                "answers": 2 * len(answers),
                "versions": fingerprint["versions"],
            },
            indent=2,
        )
    )


def machine() -> str:
    import torch

    kind = torch.accelerator.current_accelerator()
    return torch.get_device_module(kind.type).get_device_name() if kind else platform.machine()


if __name__ == "__main__":
    main()
