"""Are this machine's numbers right? Small parts of what training and generation compute, against float64 on the CPU."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from sqlora.doctor.result import OK, SLOW, WRONG, CheckResult
from sqlora.doctor.tolerance import Error, check_kernel, dtype_name, error_of, on_device, random_tensors
from sqlora.model import bitsandbytes
from sqlora.model.device import Device
from sqlora.model.precision import limit
from sqlora.system.console import console
from sqlora.system.errors import UserError
from sqlora.training.packing import packed_batches, packed_loss, plan

SMALL_SHAPES = ((1, 320, 1280), (512, 512, 512))  # rows, inputs, outputs: wrong on some Battlemage cards
LARGE_SHAPES = (*SMALL_SHAPES, (40, 2048, 8192), (128, 4096, 4096))  # wrong there too
HEAD_SIZES = (64, 100, 128)  # 100: OpenLLaMA-3B's, no multiple of 8
SLOT_LENGTHS, SLOT_PREFIX = (0, 15, 63, 64, 150, 191), 37  # of answers in the making: positions before the last token
INPUTS, OUTPUTS = 1024, 256  # of a 4-bit layer; the wrong gemv was right up to 256 inputs
WORST_CODE = 1.02  # double quantisation of the scales adds a thousandth to the error of the nearest 4-bit values
VOCABULARY = 256
UPDATE = "update torch and the device's driver"
TRITON = "install Triton, which comes with torch on Linux, and a C compiler; update the driver"
DEPTH = 5  # the error of a small model's gradient, as a multiple of a single product's


def quick(device: Device, backend: str, low_bit: str, packs: bool) -> None:
    """The checks at the start of finetune.py, in a second or two. Raises UserError if anything it uses is WRONG."""
    for result in _quick(device, backend, low_bit, packs):
        if result.status == WRONG:
            raise UserError(
                f"{device.name} computes wrong: {result.name}, {result.detail}; {result.remedy} "
                f"(python -m sqlora.doctor reports more)"
            )


def _quick(device: Device, backend: str, low_bit: str, packs: bool) -> Iterator[CheckResult]:
    yield matrix_products(device, SMALL_SHAPES)
    yield attention(device, masked=False, head_sizes=HEAD_SIZES[:1])
    if packs:
        yield attention(device, masked=True, head_sizes=HEAD_SIZES[:1])
    if backend == "bitsandbytes":
        yield from four_bit(device, low_bit)


def four_bit(device: Device, low_bit: str) -> Iterator[CheckResult]:
    """The checks of quantised weights."""
    if low_bit != "none":
        yield round_trip(device, low_bit)
        yield four_bit_product(device, low_bit)
        yield gradient_after_evaluation(device, low_bit)


def matrix_products(device: Device, shapes: tuple[tuple[int, int, int], ...]) -> CheckResult:
    """Linear layers with these numbers of rows, inputs and outputs, in the device's compute type."""

    def measure() -> dict[str, Error]:
        errors = {}
        for rows, inputs, outputs in shapes:
            tensors = random_tensors(device.dtype, (rows, inputs), (outputs, inputs), (outputs,))
            got = torch.nn.functional.linear(*(tensor.to(device.torch_device) for tensor in tensors))
            want = torch.nn.functional.linear(*(tensor.double() for tensor in tensors))
            errors[f"{rows} x {inputs} x {outputs}"] = error_of(got, want, device.dtype, inputs)
        return errors

    return check_kernel(f"matrix products, {dtype_name(device.dtype)}", f"{UPDATE}; {_ways_round(device)}", measure)


def attention(device: Device, masked: bool, head_sizes: tuple[int, ...]) -> CheckResult:
    """SDPA forward and backward, with the dense mask of a prefix tree or causal without a mask, and which kernel
    ran.
    """
    ends = packed_batches.build_tree(_branching_rows())["ends"]
    mask = packed_batches.tree_mask(ends) if masked else torch.ones(1, 1, len(ends), len(ends), dtype=torch.bool).tril()
    kernels: dict[int, str] = {}

    def measure() -> dict[str, Error]:
        errors = {}
        for size in head_sizes:
            *inputs, gradient = random_tensors(device.dtype, *[(1, 2, len(ends), size)] * 4)
            here = [on_device(tensor, device) for tensor in inputs]
            dense = mask.to(device.torch_device) if masked else None
            got = torch.nn.functional.scaled_dot_product_attention(
                here[0], here[1], here[2], attn_mask=dense, is_causal=not masked
            )
            kernels[size] = kernel_of(got)
            got.backward(gradient.to(device.torch_device))
            there = [tensor.double().requires_grad_() for tensor in inputs]
            want = attention_by_definition(there[0], there[1], there[2], mask)
            want.backward(gradient.double())
            pairs = [(got, want.detach()), *((_grad(a), _grad(b)) for a, b in zip(here, there, strict=True))]
            for name, (computed, exact) in zip(("output", "dQ", "dK", "dV"), pairs, strict=True):
                errors[f"{name}, heads of {size}"] = error_of(computed, exact, device.dtype, len(ends))
        return errors

    kind, remedy = ("masked", "PACKING (--packing) off needs no mask") if masked else ("causal", UPDATE)
    result = check_kernel(f"attention, {kind}, {dtype_name(device.dtype)}", f"{remedy}; {_ways_round(device)}", measure)
    if result.status == WRONG:
        return result
    detail = f"{' and '.join(sorted(set(kernels.values())))} kernel, {result.detail}"
    slow = [str(size) for size, kernel in kernels.items() if kernel == "math"]
    if device.type == "cpu" or not slow:
        return replace(result, detail=detail)
    remedy = (
        "leave PACKING (--packing) on auto with Triton installed, or set it to off: neither needs a mask"
        if masked
        else "torch 2.11 or newer has a flash kernel on XPU, in bfloat16 and float16, from 2.14 on for heads "
        "of any size; Arc's A series has none"
    )
    return CheckResult(
        result.name, SLOW, f"{detail}; all scores are stored, [length, length], for heads of {', '.join(slow)}", remedy
    )


def slot_attention(device: Device) -> CheckResult:
    """Attention of generate.py: a query per row over keys of different lengths, and over a shared prefix with its
    kernel.
    """
    from sqlora.generation import kv_cache  # which BACKEND bigdl's transformers cannot import

    target, rows, kernels = torch.device(device.torch_device), len(SLOT_LENGTHS), set()
    lengths, positions = torch.tensor(SLOT_LENGTHS), torch.arange(-SLOT_PREFIX, max(SLOT_LENGTHS) + 1)

    def measure() -> dict[str, Error]:
        errors = {}
        for size in HEAD_SIZES:
            query, *states = random_tensors(
                device.dtype,
                (rows, 4, 1, size),
                *[(rows, max(SLOT_LENGTHS) + 1, 2, size)] * 2,
                *[(1, 2, SLOT_PREFIX, size)] * 2,
            )
            reads = kv_cache.reads_lengths(target, device.dtype, size)
            kernels.add("its own kernel" if reads else "SDPA")
            *own, keys, values = (state.to(target, kv_cache.cache_type(target, device.dtype)) for state in states)
            prefix = (keys, values) if reads else (None, None)
            got, _ = kv_cache.slot_attention(
                None,
                query.to(target),
                (own[0], prefix[0]),
                (own[1], prefix[1]),
                None,
                scaling=size**-0.5,
                lengths=lengths.to(target),
                reads_lengths=reads,
            )
            seen = (positions <= lengths[:, None]) & (reads | (positions >= 0))
            whole_keys, whole_values = (
                torch.cat([first.expand(rows, -1, -1, -1), own_states.transpose(1, 2)], dim=2)
                .double()
                .repeat_interleave(2, dim=1)
                for own_states, first in zip(states[:2], states[2:], strict=True)
            )
            want = attention_by_definition(query.double(), whole_keys, whole_values, seen[:, None, None])
            errors[f"heads of {size}"] = error_of(got[:, 0], want[:, :, 0], device.dtype, len(positions))
        return errors

    result = check_kernel(f"slot attention, {dtype_name(device.dtype)}", f"{UPDATE}; {_ways_round(device)}", measure)
    return replace(result, detail=", ".join([*sorted(kernels), result.detail]))


def attention_by_definition(query, key, value, mask: torch.Tensor) -> torch.Tensor:
    """softmax(QK' / sqrt(size)) V where the mask is true (Vaswani et al. 2017, equation 1)."""
    scores = query @ key.mT / query.shape[-1] ** 0.5
    return scores.masked_fill(~mask, float("-inf")).softmax(dim=-1) @ value


def kernel_of(output: torch.Tensor) -> str:
    """The SDPA kernel that computed this output, by its graph: flash, efficient, cudnn, fused (XPU's oneDNN) or
    math.
    """
    nodes: list[Any] = [output.grad_fn]
    while nodes:
        node = nodes.pop()
        for kernel in ("Flash", "Efficient", "Cudnn", "Fused"):
            if f"{kernel}Attention" in node.name():
                return kernel.lower()
        nodes += [before for before, _ in node.next_functions if before]
    return "math"


def round_trip(device: Device, low_bit: str) -> CheckResult:
    """Weights quantised to 4 bits and back, against the nearest of the 16 values, the best that is possible."""

    def measure() -> dict[str, Error]:
        layer, weight = four_bit_layer(device, low_bit)
        state = layer.weight.quant_state
        blocks = weight.double().view(-1, state.blocksize)
        values, scales = state.code.double().cpu().sort().values, blocks.abs().amax(dim=1, keepdim=True)
        nearest = values[torch.bucketize(blocks / scales, (values[1:] + values[:-1]) / 2)] * scales
        restored = _weight_back(layer).view_as(blocks)
        least, error = (((back - blocks).norm() / blocks.norm()).item() for back in (nearest, restored))
        return {f"{low_bit} and back": Error(error, 0.0, WORST_CODE * least)}

    return check_kernel(f"{low_bit} round trip", _other_library(device), measure)


def four_bit_product(device: Device, low_bit: str) -> CheckResult:
    """A 4-bit layer as generation uses it, with one row (gemv) and with several, against its weights dequantised."""

    def measure() -> dict[str, Error]:
        layer, _ = four_bit_layer(device, low_bit)
        weight = _weight_back(layer)
        bitsandbytes.keep_4bit_unpacked(layer, training=False)
        errors = {}
        for rows in (1, 8, 40):
            (x,) = random_tensors(device.dtype, (rows, INPUTS))
            with torch.no_grad():
                got = layer.eval()(x.to(device.torch_device))
            errors["one row" if rows == 1 else f"{rows} rows"] = error_of(
                got, x.double() @ weight.T, device.dtype, INPUTS
            )
        return errors

    return check_kernel(
        f"4-bit product, {dtype_name(device.dtype)}", f"{_other_library(device)}; {_ways_round(device)}", measure
    )


def gradient_after_evaluation(device: Device, low_bit: str) -> CheckResult:
    """The gradient that flows through a 4-bit layer as training uses it: at first, and after an evaluation."""

    def measure(unpacked: bool = True) -> dict[str, Error]:
        layer, _ = four_bit_layer(device, low_bit)
        weight = _weight_back(layer)
        if unpacked:
            bitsandbytes.keep_4bit_unpacked(layer, training=True)
        x, gradient = random_tensors(device.dtype, (8, INPUTS), (8, OUTPUTS))
        errors = {}
        for when in ("before an evaluation", "after one"):
            here = on_device(x, device)
            output = layer.train()(here)
            if output.requires_grad:
                output.backward(gradient.to(device.torch_device))
            got = torch.zeros_like(x) if here.grad is None else here.grad
            errors[when] = error_of(got, gradient.double() @ weight, device.dtype, OUTPUTS)
            with torch.no_grad():
                layer.eval()(x.to(device.torch_device))
        return errors

    name = f"4-bit gradient, {dtype_name(device.dtype)}"
    result = check_kernel(name, f"{_other_library(device)}; as it is the model would not learn", measure)
    if result.status == OK and check_kernel(name, "", lambda: measure(unpacked=False)).status == WRONG:
        return replace(
            result, detail=f"{result.detail}; bitsandbytes alone loses it in an evaluation, which SQLoRA prevents"
        )
    return result


def four_bit_layer(device: Device, low_bit: str) -> tuple[Any, torch.Tensor]:
    """A Linear4bit on the device, quantised like a base model's, and the weights that it was made from."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    (weight,) = random_tensors(device.dtype, (OUTPUTS, INPUTS))
    with torch.random.fork_rng(devices=[]):  # a new layer initialises its weights
        layer = Linear4bit(INPUTS, OUTPUTS, bias=False, compute_dtype=device.dtype, quant_type=low_bit)
    layer.weight = Params4bit(weight, requires_grad=False, quant_type=low_bit, module=layer)
    return layer.to(device.torch_device), weight


def _weight_back(layer: Any) -> torch.Tensor:
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(layer.weight.data, layer.weight.quant_state).double().cpu()


def packed_pass(device: Device, packing: plan.PackingPlan) -> CheckResult:
    """Loss and gradients of a small Llama with packed rows, against padded rows in float64 on the CPU.

    A tree runs FlexAttention on a GPU. SLOW if FlexAttention or the compiler does not work, since training then does
    without.
    """
    used = packing

    def measure() -> dict[str, Error]:
        nonlocal used
        model = _small_llama(device.dtype)
        reference = copy.deepcopy(model).double()
        model.to(device.torch_device)
        used = plan.prepare_model(model, packing, device)
        got = _loss_and_gradient(model, used.name, device)
        want = _loss_and_gradient(reference, "off", replace(device, type="cpu", dtype=torch.float64))
        largest = DEPTH * limit(device.dtype, len(_branching_rows()[-1]["input_ids"]))
        return {
            name: Error(((computed - exact).norm() / exact.norm()).item(), 0.0, largest)
            for name, computed, exact in zip(("loss", "gradient"), got, want, strict=True)
        }

    name = f"packed pass, {packing.name}{', compiled' if packing.compiled else ''}"
    setting = "COMPILE (--compile)" if packing.compiled else "PACKING (--packing)"
    with console.capture() as printed:  # the note of prepare_model about what does not work
        result = check_kernel(name, f"{setting} off avoids it; or update torch and Triton", measure)
    if result.status == OK and used != packing:
        why = " ".join(printed.get().split()).removeprefix("note: ")
        return CheckResult(name, SLOW, why, TRITON)
    return result


def _small_llama(dtype: torch.dtype) -> torch.nn.Module:
    """Two layers with an adapter, on the CPU; the frozen weights in `dtype`, like a base model's."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = LlamaConfig(
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=VOCABULARY,
        max_position_embeddings=512,
    )
    adapter = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = get_peft_model(LlamaForCausalLM(shape), adapter)
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
    return model


def _grad(tensor: torch.Tensor) -> torch.Tensor:
    assert tensor.grad is not None
    return tensor.grad


def _loss_and_gradient(model: Any, packing: str, device: Device) -> tuple[torch.Tensor, torch.Tensor]:
    (inputs,) = packed_batches.make_batches(_branching_rows(), packing, 10_000)
    inputs = {name: tensor.to(device.torch_device) for name, tensor in inputs.items()}
    with torch.autocast(device.type, dtype=device.dtype, enabled=device.dtype in (torch.bfloat16, torch.float16)):
        loss = packed_loss.loss_sum(model, inputs, model.get_base_model())
    loss.backward()
    gradients = [parameter.grad.flatten() for parameter in model.parameters() if parameter.requires_grad]
    return loss.detach().double().cpu(), torch.cat(gradients).double().cpu()


def _branching_rows() -> list[packed_batches.TokenisedExample]:
    """Three rows that share a prefix of 128 tokens, and then have 0, 64 and 64 tokens."""
    tokens = [[*range(128), *range(start, start + own)] for start, own in ((0, 0), (128, 64), (192, 64))]
    return [{"input_ids": ids, "labels": ids} for ids in tokens]


def _ways_round(device: Device) -> str:
    if device.dtype == torch.float32:
        return "DEVICE (--device) cpu avoids it" if device.type != "cpu" else "another version of torch may avoid it"
    if device.type == "cpu" or device.dtype == torch.float16:
        return "DTYPE (--dtype) float32 may avoid it"
    return "DTYPE (--dtype) float16 or float32 may avoid it"


def _other_library(device: Device) -> str:
    fault = " (before 0.50 its bfloat16 gemv was wrong on Arc)" if device.type == "xpu" else ""
    return f"install the bitsandbytes that requirements.txt names{fault}; LOW_BIT (--low-bit) none does without it"
