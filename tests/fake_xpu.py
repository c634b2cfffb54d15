"""A training step and answers of a large model on an Intel GPU that is not here: tensors have a device, and no memory.

    python tests/fake_xpu.py SHAPE    (a name of SHAPES)

torch's FakeTensorMode refuses what mixes devices. What is brought back to the CPU, and kernels that are for CUDA alone,
end the run. fake_xpu.cpp, compiled in seconds, is what a CPU build of torch needs for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import torch
from torch._subclasses import fake_tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ROOT = Path(__file__).parents[1]
LIBRARIES = Path(torch.__file__).parent / "lib"
SHAPES = {
    "codellama-7b": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "vocab_size": 32016},
    "openllama-3b": {"hidden_size": 3200, "intermediate_size": 8640, "num_hidden_layers": 26, "vocab_size": 32000},
    "two-layers": {"hidden_size": 3200, "intermediate_size": 8640, "num_hidden_layers": 2, "vocab_size": 32000},
}
CARD = torch.device("xpu", 0)


class ElsewhereError(AssertionError):
    """A result has left the card, or a kernel is not for it."""


class OnCard(TorchDispatchMode):
    """Counts the operations on the card, and refuses those that leave it and those that it has not."""

    def __init__(self):
        super().__init__()
        self.operations: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        if function.namespace == "sqlora":
            raise ElsewhereError(f"{function} is a kernel for CUDA alone")
        results = function(*arguments, **(keywords or {}))
        before, after = devices_of((arguments, keywords)), devices_of(results)
        if "xpu" in before and "cpu" in after:
            raise ElsewhereError(f"{function} brings a result back to the CPU")
        self.operations[str(function)] += "xpu" in after
        return results


def devices_of(values) -> set[str]:
    return {one.device.type for one in tree_leaves(values) if isinstance(one, torch.Tensor)}


class MathAttention(TorchFunctionMode):
    """Attention as on a card without a fused kernel; the choice of one asks a library that is not here."""

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        if function is torch.nn.functional.scaled_dot_product_attention:
            keywords = {key: value for key, value in (keywords or {}).items() if value is not None}
            return torch.ops.aten._scaled_dot_product_attention_math(*arguments, **keywords)[0]
        return function(*arguments, **(keywords or {}))


def load_card() -> None:
    """Compiles and loads fake_xpu.cpp."""
    for name in ("libc10.so", "libtorch_cpu.so"):
        ctypes.CDLL(str(LIBRARIES / name), mode=ctypes.RTLD_GLOBAL)
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "fake_xpu.so")
        source = [f"-I{LIBRARIES.parent / 'include'}", "-std=c++20", str(Path(__file__).with_suffix(".cpp"))]
        subprocess.run(["g++", "-shared", "-fPIC", "-w", *source, "-o", library], check=True)
        ctypes.CDLL(str(library))


def make_model(shape: str):
    """The shape with NF4 layers, in bfloat16, on the card."""
    from bitsandbytes.functional import quantize_4bit
    from bitsandbytes.nn import Linear4bit
    from transformers import LlamaConfig, LlamaForCausalLM

    class Layer(Linear4bit):
        """A Linear4bit whose weight is an ordinary parameter: a Params4bit can hold no fake tensor."""

        def __init__(self, plain: torch.nn.Linear):
            torch.nn.Module.__init__(self)
            packed, state = quantize_4bit(plain.weight.data, quant_type="nf4", compress_statistics=True)
            weight = torch.nn.Parameter(packed, requires_grad=False)
            for name, value in {"quant_state": state, "quant_type": "nf4", "compress_statistics": True}.items():
                setattr(weight, name, value)
            self.weight, self.bias, self.compute_dtype, self.compute_type_is_set = weight, None, torch.bfloat16, True
            self.in_features, self.out_features = plain.in_features, plain.out_features

    torch.set_default_dtype(torch.bfloat16)
    with CARD:
        model = LlamaForCausalLM(LlamaConfig(**SHAPES[shape], num_attention_heads=32))
    torch.set_default_dtype(torch.float32)
    model.requires_grad_(False)
    for name, layer in list(model.named_modules()):
        if isinstance(layer, torch.nn.Linear) and name != "lm_head":
            model.set_submodule(name, Layer(layer))
    model.is_loaded_in_4bit = True
    return model


def train(model) -> torch.Tensor:
    """The loss of a packed batch, after its backward pass."""
    from sqlora.model import loading
    from sqlora.settings.command_line import load_settings
    from sqlora.training.packing import attention, packed_batches, packed_loss

    with CARD:
        peft = loading.wrap_with_adapter(model, load_settings(["--device", "xpu"], ""))
    model.set_attn_implementation(attention.PREFIX_ATTENTION)
    rows = [[*range(2, 60), *range(100 * i, 100 * i + 30)] for i in range(1, 5)]
    (batch,) = packed_batches.make_batches([{"input_ids": ids, "labels": ids} for ids in rows], "prefix", 10_000)
    inputs = {name: tensor.to(CARD) for name, tensor in batch.items()}
    with torch.autocast("xpu", dtype=torch.bfloat16):
        loss = packed_loss.loss_sum(peft.train(), inputs, model)
    loss.backward()
    trained = [parameter for parameter in peft.parameters() if parameter.requires_grad]
    assert {parameter.grad.device.type for parameter in trained} == {"xpu"}
    return loss


def answer(model) -> torch.Tensor:
    """The logits of a decode step of three rows that share a prefix."""
    from sqlora.generation import decoder

    with decoder.slot_attention(model):
        engine = decoder.Decoder(model.eval(), 3, 1, 128)
        prefix = list(range(2, 40))
        engine.keep_prefix(prefix)
        first = engine.fill([0, 1, 2], [[*prefix, 50, 51], [*prefix, 60], [*prefix, 70, 71, 72]])
        assert first.device == CARD
        engine.feed([0, 1, 2], torch.tensor([[5], [6], [7]]))
        return engine.step()


def main() -> None:
    load_card()
    from bitsandbytes.functional import quantize_4bit

    # In it torch.tensor makes tensors that are not fake.
    torch.inference_mode = lambda mode=True: torch.no_grad() if mode else contextlib.nullcontext()
    fake_tensor.CONSTANT_NUMEL_LIMIT = 1 << 20  # lists on the CPU keep their numbers, which are asked for
    torch.nn.Module._apply = lambda module, *_: module  # nor can modules of fake tensors be moved: they are made there
    torch.Tensor.pin_memory = lambda tensor: tensor  # which asks for a card
    quantize_4bit(torch.ones(64, 64), quant_type="nf4", compress_statistics=True)  # its tables need real numbers

    with fake_tensor.FakeTensorMode(allow_non_fake_inputs=True), MathAttention(), OnCard() as on_card:
        model = make_model(sys.argv[1])
        results = {"answers": answer(model), "training": train(model)}
    found = {name: [str(one.device), str(one.dtype), list(one.shape)] for name, one in results.items()}
    print(json.dumps(found | {"operations": on_card.operations}))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
