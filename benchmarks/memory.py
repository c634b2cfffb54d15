"""Memory of a pass: predicted by --estimate, predicted by two small passes of the loaded model, and taken; a line for
each case.

    python benchmarks/memory.py            on this machine's CPU, some minutes, up to 6 GB
    python benchmarks/memory.py --gpu      on its GPU: CodeLlama-7B's shape in NF4, SmolLM2's, one of 151,936 tokens

Random weights, made-up rows; the figures depend on shapes alone. A case is a process of its own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

SHAPES = {  # hidden, feed-forward, layers, heads, key-value heads, vocabulary
    "codellama-7b": (4096, 11008, 32, 32, 32, 32016),
    "smollm2-135m": (576, 1536, 30, 9, 3, 49152),
    "smollm2-10-layers": (576, 1536, 10, 9, 3, 49152),
    "wide-vocabulary": (512, 2048, 6, 8, 2, 151936),
}
TARGETS = {"qv": "q_proj,v_proj", "qkvo": "q_proj,k_proj,v_proj,o_proj", "all": "all-linear"}


def cases(gpu: bool) -> list[tuple]:
    """Shape, targets, dropout, dtype, low_bit, packing, compile, tokens of the pass."""
    if gpu:
        return [
            *itertools.product(
                ["codellama-7b"], ["qkvo", "all"], [0.0, 0.05], ["bfloat16"], ["nf4"], ["tree"], ["on"], [6000]
            ),
            ("codellama-7b", "all", 0.05, "bfloat16", "nf4", "off", "off", 4000),
            ("codellama-7b", "qkvo", 0.0, "bfloat16", "nf4", "prefix", "off", 4000),
            ("smollm2-135m", "all", 0.05, "bfloat16", "none", "tree", "on", 16000),
            ("wide-vocabulary", "all", 0.05, "bfloat16", "none", "tree", "off", 16000),
        ]
    return [
        *itertools.product(
            ["smollm2-10-layers"], TARGETS, [0.0, 0.05], ["float32"], ["none"], ["prefix"], ["off"], [1500]
        ),
        *itertools.product(
            ["smollm2-10-layers"],
            ["all"],
            [0.05],
            ["float32", "bfloat16"],
            ["nf4"],
            ["prefix", "tree", "off"],
            ["off"],
            [1500],
        ),
        ("wide-vocabulary", "all", 0.05, "float32", "none", "prefix", "off", 1500),
        ("smollm2-135m", "all", 0.05, "float32", "none", "prefix", "off", 1500),
    ]


def measure(
    shape: str,
    targets: str,
    dropout: float,
    dtype: str,
    low_bit: str,
    packing: str,
    compile_: str,
    tokens: int,
    gpu: bool,
) -> dict:
    """Bytes beside the weights of one pass, and what was predicted of it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from sqlora.model import device as devices
    from sqlora.model import loading, quantised
    from sqlora.model.base_models import BaseModel
    from sqlora.settings.command_line import load_settings
    from sqlora.training import memory_estimate, pass_bytes
    from sqlora.training.packing import packed_batches as packer
    from sqlora.training.packing import plan

    hidden, feed_forward, layers, heads, kv, vocabulary = SHAPES[shape]
    config = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=feed_forward,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv,
        vocab_size=vocabulary,
        tie_word_embeddings=shape != "codellama-7b",
    )
    config.architectures = ["LlamaForCausalLM"]
    settings = load_settings(
        [
            "--lora-targets",
            TARGETS[targets],
            "--lora-dropout",
            str(dropout),
            "--dtype",
            dtype,
            "--low-bit",
            low_bit,
            "--packing",
            packing,
            "--compile",
            compile_,
            "--device",
            "cuda" if gpu else "cpu",
        ],
        "",
    )
    device = loading.choose_device(settings)
    draw = random.Random(0)
    rows = []
    for _ in range(400):
        length = draw.randint(60, 160)
        ids = list(range(3, 43)) + [draw.randrange(50, vocabulary) for _ in range(length)]
        rows.append({"input_ids": ids, "labels": [-100] * (40 + length * 6 // 10) + ids[40 + length * 6 // 10 :]})
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        base = BaseModel(Path(folder), "x", None, "")
        with torch.device(device.torch_device):
            torch.set_default_dtype(device.dtype)
            model = LlamaForCausalLM(config)
            torch.set_default_dtype(torch.float32)
        model.requires_grad_(False)
        if low_bit != "none":
            quantised.quantise(model, low_bit, device)
        model = loading.wrap_with_adapter(model, settings)
        form = plan.prepare_model(model, plan.choose_plan(config, settings, device), device)
        counted = memory_estimate.predicted(
            memory_estimate.without_weights(base, settings).to(device.dtype), rows, settings, form
        )
    devices.give_memory_back(always=True)  # as where memory is short
    seen = pass_bytes.measured(model, rows, form)
    inputs = packer.make_batches(rows, form.name, tokens)[0]
    taken = pass_bytes.taken(model, inputs)
    size = inputs["input_ids"].numel()
    return {
        "shape": shape,
        "targets": targets,
        "dropout": dropout,
        "dtype": dtype,
        "low_bit": low_bit,
        "packing": form.name,
        "compiled": form.compiled,
        "tokens": size,
        "taken_gb": taken / 1e9,
        "by_shapes": counted.of(size) / taken,
        "by_passes": seen.of(size) / taken if seen else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--case", type=int, help="that case alone, in this process")
    arguments = parser.parse_args()
    todo = cases(arguments.gpu)
    if arguments.case is not None:
        print(json.dumps(measure(*todo[arguments.case], arguments.gpu)))
        return
    print("| shape | targets | dropout | dtype | weights | packing | tokens | taken, GB | by shapes | by two passes |")
    print("|---" * 10 + "|")
    for number in range(len(todo)):
        command = [sys.executable, __file__, "--case", str(number), *(["--gpu"] if arguments.gpu else [])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode:
            print(todo[number], done.stderr.strip().splitlines()[-1:], flush=True)
            continue
        f = json.loads(done.stdout.strip().splitlines()[-1])
        form = f["packing"] + ", compiled" * f["compiled"]
        seen = f"{f['by_passes']:.2f}" if f["by_passes"] else "–"
        print(
            f"| {f['shape']} | {f['targets']} | {f['dropout']} | {f['dtype']} | {f['low_bit']} | {form} | "
            f"{f['tokens']:,} "
            f"| {f['taken_gb']:.2f} | {f['by_shapes']:.2f} | {seen} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
