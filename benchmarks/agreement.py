"""What the comparison with plain transformers at the start of a run costs: seconds, and bytes at the peak.

See training/agreement.py and generation/agreement.py.

    python benchmarks/agreement.py [--shape codellama-7b] [finetune.py's flags]

The weights are random. Prints one JSON object; "prepare" is what a run did before it (compiling, trying FlexAttention).
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.full_size import SHAPES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="codellama-7b")
    arguments, flags = parser.parse_known_args()
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from sqlora.generation.agreement import check_answering
    from sqlora.model import base_models, device, loading
    from sqlora.settings.command_line import load_settings
    from sqlora.training.agreement import check_training
    from sqlora.training.packing import plan

    settings = load_settings(flags, "")
    chosen = device.choose_device(settings.DEVICE, settings.DTYPE)
    with tempfile.TemporaryDirectory() as folder:
        sizes = dict(SHAPES[arguments.shape])
        rope = {"rope_type": "default", "rope_theta": sizes.pop("rope_theta", 1e4)}
        torch.set_default_dtype(torch.bfloat16)
        with torch.device(chosen.torch_device):
            LlamaForCausalLM(LlamaConfig(**sizes, rope_parameters=rope)).save_pretrained(folder)
        torch.set_default_dtype(torch.float32)
        base = base_models.BaseModel(Path(folder), folder, None, "")
        model = loading.load_base(base, settings.LOW_BIT, chosen, training=True)
    seconds, peaks, on_gpu = {}, {}, chosen.type != "cpu"

    def measure(name: str, work) -> object:
        if on_gpu:
            torch.get_device_module(chosen.type).reset_peak_memory_stats()
        start = time.perf_counter()
        found = work()
        if on_gpu:
            torch.accelerator.synchronize()
        seconds[name], peaks[name] = round(time.perf_counter() - start, 2), device.peak_memory(chosen.type)
        return found

    measure("answering", lambda: check_answering(model))
    model = loading.wrap_with_adapter(model, settings)
    form = plan.choose_plan(model.config, settings, chosen)
    form = measure("prepare", lambda: plan.prepare_model(model, form, chosen))
    measure("training", lambda: check_training(model, form))
    print(
        json.dumps(
            {
                "device": chosen.name,
                "shape": arguments.shape,
                "form": form.name,
                "compiled": form.compiled,
                "low_bit": settings.LOW_BIT,
                "seconds": seconds,
                "peak_bytes": peaks,
            }
        )
    )


if __name__ == "__main__":
    main()
