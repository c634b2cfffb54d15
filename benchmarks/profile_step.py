"""Where the time of a training step goes: one step of finetune.py's own passes under torch.profiler, by kind of kernel.

python benchmarks/profile_step.py --model FOLDER --rows ROWS.jsonl [--batch-size 128] [finetune.py's flags]
"""

import argparse
import random
import re
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

KINDS = {  # by the kernel's name, the first that fits
    "4-bit weights unpacked": r"dequant",
    "attention": r"flex_attention|flash|fmha|attention",
    "matrix products": r"gemm|cutlass|nvjet|cublas|splitK|xmma",
    "optimiser and clipping": r"multi_tensor|adam|foreach|lpnorm",
    "compiled element-wise": r"^triton_",
    "other element-wise": r"elementwise|reduce|softmax|index|copy|cat|fill|scatter|gather|norm",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    arguments, flags = parser.parse_known_args()
    import torch

    from sqlora.data import dataset, tokenise
    from sqlora.model import base_models, device, loading
    from sqlora.settings.command_line import load_settings
    from sqlora.training.packing import packed_batches, packed_loss, plan

    settings = load_settings(["--lora-dropout", "0", "--no-gradient-checkpointing", *flags], "")
    chosen = device.choose_device(settings.DEVICE, settings.DTYPE)
    base = base_models.BaseModel(arguments.model, str(arguments.model), None, "")
    form = plan.choose_plan(loading.check_causal(base), settings, chosen)
    rows = dataset.load_rows(str(arguments.rows), "--rows")
    random.Random(0).shuffle(rows)
    rows = tokenise.tokenise_rows(rows[: settings.BATCH_SIZE], loading.load_tokenizer(base), settings).rows
    model = loading.wrap_with_adapter(loading.load_base(base, settings.LOW_BIT, chosen, training=True), settings)
    form = plan.prepare_model(model, form, chosen)
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)

    def step() -> None:
        for one in packed_batches.make_batches(rows, form.name, 10**9):
            inputs = {key: tensor.to(chosen.torch_device) for key, tensor in one.items()}
            with torch.autocast(chosen.type, dtype=chosen.dtype):
                loss = packed_loss.loss_sum(model, inputs, model.get_base_model())
            (loss / packed_batches.count_targets(rows)).backward()
        torch.nn.utils.clip_grad_norm_(trained, 0.3)
        optimizer.step()
        optimizer.zero_grad()
        torch.accelerator.synchronize()

    for _ in range(3):
        step()
    start = time.perf_counter()
    step()
    seconds = time.perf_counter() - start
    activity = torch.profiler.ProfilerActivity
    with torch.profiler.profile(
        activities=[activity.CPU, activity.CUDA if chosen.type == "cuda" else activity.XPU]
    ) as profiler:
        step()
    spent, longest = Counter(), {}
    for event in profiler.key_averages():
        if event.self_device_time_total and event.device_type != torch.autograd.DeviceType.CPU:
            kind = next(
                (kind for kind, pattern in KINDS.items() if re.search(pattern, event.key, re.IGNORECASE)), "other"
            )
            spent[kind] += event.self_device_time_total / 1e6
            longest.setdefault(kind, []).append((event.self_device_time_total / 1e6, event.count, event.key[:90]))
    spent["waiting for the CPU"] = max(0.0, seconds - sum(spent.values()))
    print(
        f"{len(rows)} rows, {form.name}, compiled {form.compiled}: {seconds:.3f} s, {len(rows) / seconds:.1f} rows/s\n"
    )
    print("| kind | s | share |\n|---|---|---|")
    for kind, time_spent in spent.most_common():
        print(f"| {kind} | {time_spent:.3f} | {100 * time_spent / seconds:.0f} % |")
    for kind, kernels in longest.items():
        described = (f"{spent:.3f} s, {count} times: {name}" for spent, count, name in sorted(kernels)[:-5:-1])
        print(f"\n{kind}: {'; '.join(described)}")


if __name__ == "__main__":
    main()
