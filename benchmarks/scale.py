"""The arithmetic of docs/scale.md: memory of a GPU, bytes between GPUs, and the cost of an epoch, by
sqlora/training/memory_estimate.py.

    python benchmarks/scale.py [--tokens 8192]      tokens in a pass

For CodeLlama's shapes and Llama 2's 70B, with config.py's adapter, in bfloat16 and NF4. Nothing is loaded.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import full_size, two_gpus

SHAPES = {
    "7B": full_size.SHAPES["codellama-7b"],
    "13B": {
        "hidden_size": 5120,
        "intermediate_size": 13824,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
        "vocab_size": 32016,
    },
    "34B": two_gpus.SHAPES["codellama-34b"],
    "70B": {
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "vocab_size": 32000,
    },
}
SHARING = (1, 2, 4, 8)
ROWS = 78_577  # of sql-create-context
RATE, MEASURED = 217.3, "7B"  # rows/s of one H200 (benchmarks/README.md)
LINKS = {"NVLink, 450 GB/s": 450e9, "PCIe 4, 25 GB/s": 25e9, "100 Gbit/s": 12.5e9, "10 Gbit/s": 1.25e9}  # each way
STEP_ROWS = 160  # of a GPU in a step, with which the rate was measured


def main() -> None:
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from sqlora.model import loading
    from sqlora.settings.command_line import load_settings
    from sqlora.training import memory_estimate
    from sqlora.training.packing.plan import PackingPlan

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=8192)
    arguments = parser.parse_args()
    plain, saving = load_settings([], ""), load_settings(["--gradient-checkpointing"], "")
    eager = PackingPlan("tree", "", False, "")
    rows: dict[str, list[str]] = {"memory": [], "bytes": [], "epoch": []}
    linear_of = {}
    row = [{"input_ids": [1] * 2048, "labels": [-100] * 1200 + [1] * 848}]
    for name, sizes in SHAPES.items():
        config = LlamaConfig(**{key: value for key, value in sizes.items() if key != "rope_theta"})
        with torch.device("meta"):
            model = loading.wrap_with_adapter(AutoModelForCausalLM.from_config(config), plain)
        parts = [memory_estimate.model_bytes(model, plain.LOW_BIT, torch.bfloat16, sharing) for sharing in SHARING]
        _, trained, linear = parts[0]
        adapter = trained / memory_estimate.TRAINED_BYTES
        linear_of[name] = linear
        model.to(torch.bfloat16)
        passes = [
            memory_estimate.predicted(model, row, settings, eager).of(arguments.tokens) for settings in (plain, saving)
        ]
        rows["memory"].append(
            f"| {name} | "
            + " | ".join(f"{(weights + trained) / 1e9:.1f}" for weights, _, _ in parts)
            + f" | {passes[0] / 1e9:.1f} | {passes[1] / 1e9:.1f} |"
        )
        sent = 2 * adapter * 4  # a ring sends each number there and back, but for 1 / N of it
        gathered = 2 * linear * 0.5  # before the forward and before the backward pass
        rows["bytes"].append(
            f"| {name} | {adapter / 1e6:.1f} M | {sent / 1e6:.0f} MB | "
            + " | ".join(f"{1000 * sent / rate:.1f}" for rate in LINKS.values())
            + f" | {gathered / 1e9:.1f} GB | "
            + " | ".join(f"{gathered / rate:.2f}" for rate in LINKS.values())
            + " |"
        )
        rate = RATE * linear_of[MEASURED] / linear
        rows["epoch"].append(
            f"| {name} | {rate:.0f} | {ROWS / rate / 60:.0f} min | {STEP_ROWS / rate:.2f} s | "
            + " | ".join(f"{100 * sent / link / (STEP_ROWS / rate):.2f} %" for link in LINKS.values())
            + " |"
        )
    shared = " | ".join(f"FSDP2, {count} GPUs" for count in SHARING[1:])
    print(
        f"| shape | the base on each GPU | {shared} | and a pass of {arguments.tokens:,} tokens | with checkpointing |"
        f"\n{'|---' * 7}|"
    )
    print("\n".join(rows["memory"]))
    links = " | ".join(LINKS)
    print(f"\n| shape | adapter | sum of a step | ms: {links} | FSDP2, a pass | s: {links} |\n{'|---' * 12}|")
    print("\n".join(rows["bytes"]))
    print(
        f"\n| shape | rows/s of a GPU | an epoch on a GPU | a step of {STEP_ROWS} rows | share of the sum: {links} |"
        f"\n{'|---' * 8}|"
    )
    print("\n".join(rows["epoch"]))


if __name__ == "__main__":
    main()
