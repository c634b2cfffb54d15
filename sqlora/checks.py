"""Are this machine's numbers right? Small parts of what training and generation compute, against float64 on the CPU.

How far off may a right kernel be? It rounds some numbers on its way to the compute type (inputs, scales, weights, the result),
each by at most half an eps of that type, with random signs. bfloat16 products are added in float32; float16 and float32 ones may
be added in their own type, where k roundings of random sign come to sqrt(k) of one. So the root mean square of the error, as a
share of the result's, is a fraction of `eps + sqrt(k) * eps of the sum's type`, whatever the shape and the kernel: 0.2 to 0.5 of
it were measured on a CPU, and on Arc and Max GPUs the right gemv of bitsandbytes' issue 1932. The limit is three times that sum.
The faults known so far (that gemv, torch-xpu-ops 5220, compute-runtime 1000) are off by half of the result or more, zeros, or NaN.

Tensors are drawn on the CPU from a seed of their own; torch's random numbers are left as they were.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from sqlora import backend, packing
from sqlora.device import Device
from sqlora.errors import UserError

OK, SLOW, WRONG = "ok", "slow", "WRONG"
ROUNDINGS = 3  # the limit of an error's root mean square, in eps
OUTLIER = 5  # one number of a million with normally distributed errors is off by five times their root mean square
WORST_CODE = 1.02  # double quantisation of the scales adds a thousandth to the error of the nearest 4-bit values
INPUTS, OUTPUTS = 1024, 256  # of a 4-bit layer; the wrong gemv was right up to 256 inputs
SMALL_SHAPES = ((1, 320, 1280), (512, 512, 512))  # rows, inputs, outputs: wrong on some Battlemage cards
LARGE_SHAPES = (*SMALL_SHAPES, (40, 2048, 8192), (128, 4096, 4096))  # wrong there too
HEAD_SIZES = (64, 100, 128)  # 100: OpenLLaMA-3B's, no multiple of 8


@dataclass(frozen=True)
class Result:
    """What a check found: `status` is ok, slow (it works, at a cost) or WRONG; the remedy is empty where all is well."""

    name: str
    status: str
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class Error:
    """How far a result is from the right one: root mean square and worst number, as shares of the right one's size."""

    mean: float
    worst: float
    limit: float

    @property
    def small(self) -> bool:
        return self.mean <= self.limit and self.worst <= OUTLIER * self.limit  # which NaN is not


def quick(device: Device, low_bit: str) -> None:
    """What finetune.py tries before it begins, in a second or two. Raises UserError if anything is WRONG."""
    for result in quick_results(device, low_bit):
        if result.status == WRONG:
            raise UserError(f"{device.name} computes wrong: {result.name}, {result.detail}; {result.remedy} "
                            f"(python -m sqlora.doctor tells more)")


def quick_results(device: Device, low_bit: str) -> Iterator[Result]:
    yield matrix_products(device, SMALL_SHAPES)
    yield attention(device, masked=False, head_sizes=HEAD_SIZES[:1])
    yield attention(device, masked=True, head_sizes=HEAD_SIZES[:1])
    if low_bit != "none":
        yield round_trip(device, low_bit)
        yield four_bit_product(device, low_bit)
        yield gradient_after_evaluation(device, low_bit)


def matrix_products(device: Device, shapes: tuple[tuple[int, int, int], ...]) -> Result:
    """Linear layers of these rows, inputs and outputs, in the device's compute type."""
    def measure() -> dict[str, Error]:
        errors = {}
        for rows, inputs, outputs in shapes:
            x, weight, bias = _drawn(device.dtype, (rows, inputs), (outputs, inputs), (outputs,))
            got = torch.nn.functional.linear(*(tensor.to(device.place) for tensor in (x, weight, bias)))
            want = torch.nn.functional.linear(x.double(), weight.double(), bias.double())
            errors[f"{rows}x{inputs}x{outputs}"] = _error(got, want, device.dtype, inputs)
        return errors

    return _judge(f"matrix products, {_short(device.dtype)}", f"update torch and the device's driver; {_ways_round(device)}", measure)


def attention(device: Device, masked: bool, head_sizes: tuple[int, ...]) -> Result:
    """SDPA forward and backward: with the dense mask of a prefix tree, or causal without a mask; and which kernel ran."""
    ends = packing.build_tree(_branching_rows())["ends"]
    mask = packing.tree_mask(ends) if masked else torch.ones(1, 1, len(ends), len(ends), dtype=torch.bool).tril()
    kernels: list[str] = []

    def measure() -> dict[str, Error]:
        errors = {}
        for size in head_sizes:
            *inputs, gradient = _drawn(device.dtype, *[(1, 4, len(ends), size)] * 4)
            here = [_leaf(tensor, device) for tensor in inputs]
            keywords = {"attn_mask": mask.to(device.place)} if masked else {"is_causal": True}
            got = torch.nn.functional.scaled_dot_product_attention(*here, **keywords)
            kernels.append(kernel_of(got))
            got.backward(gradient.to(device.place))
            there = [tensor.double().requires_grad_() for tensor in inputs]
            want = attention_by_definition(*there, mask)
            want.backward(gradient.double())
            pairs = [(got, want), *((one.grad, other.grad) for one, other in zip(here, there, strict=True))]
            for name, (one, other) in zip(("output", "dQ", "dK", "dV"), pairs, strict=True):
                errors[f"{name}, heads of {size}"] = _error(one, other, device.dtype, len(ends))
        return errors

    kind = "masked" if masked else "causal"
    way = "set PACKING (--packing) to off, which needs no mask" if masked else "update torch and the device's driver"
    result = _judge(f"attention, {kind}, {_short(device.dtype)}", f"{way}; {_ways_round(device)}", measure)
    if result.status != OK:
        return result
    slow = sorted({size for size, kernel in zip(head_sizes, kernels, strict=True) if kernel == "math"})
    detail = f"{' and '.join(sorted(set(kernels)))} kernel, {result.detail}"
    if not slow or device.type == "cpu":
        return Result(result.name, OK, detail)
    remedy = ("leave PACKING (--packing) on auto with Triton installed, or set it to off: neither needs a mask" if masked else
              "torch 2.11 or newer has a flash kernel for training on XPU")
    return Result(result.name, SLOW, f"{detail}: [length, length] scores are kept for heads of {', '.join(map(str, slow))}", remedy)


def round_trip(device: Device, low_bit: str) -> Result:
    """Weights quantised to 4 bits and back, against the nearest of the 16 values, which nothing can do better than."""
    def measure() -> dict[str, Error]:
        layer, weight = four_bit_layer(device, low_bit)
        state = layer.weight.quant_state
        values = state.code.double().cpu()
        blocks = weight.double().view(-1, state.blocksize)
        scales = blocks.abs().amax(dim=1, keepdim=True)
        order = values.sort().values
        nearest = order[torch.bucketize(blocks / scales, (order[1:] + order[:-1]) / 2)] * scales
        least = (nearest - blocks).norm() / blocks.norm()
        error = ((_weight_back(layer).view_as(blocks) - blocks).norm() / blocks.norm()).item()
        return {f"{low_bit} and back": Error(error, error, WORST_CODE * least.item())}

    return _judge(f"{low_bit} round trip", _other_library(device), measure)


def four_bit_product(device: Device, low_bit: str) -> Result:
    """A 4-bit layer as generation uses it, with one row (gemv) and with several, against its weights dequantised."""
    def measure() -> dict[str, Error]:
        layer, _ = four_bit_layer(device, low_bit)
        weight = _weight_back(layer)
        backend.mend_cpu_kernels(layer, training=False)
        errors = {}
        for rows in (1, 8, 40):
            (x,) = _drawn(device.dtype, (rows, INPUTS))
            with torch.no_grad():
                got = layer.eval()(x.to(device.place))
            errors["one row" if rows == 1 else f"{rows} rows"] = _error(got, x.double() @ weight.T, device.dtype, INPUTS)
        return errors

    return _judge(f"4-bit product, {_short(device.dtype)}", f"{_other_library(device)}; {_ways_round(device)}", measure)


def gradient_after_evaluation(device: Device, low_bit: str) -> Result:
    """The gradient that flows through a 4-bit layer as training uses it: at first, and after an evaluation."""
    def measure(mended: bool = True) -> dict[str, Error]:
        layer, _ = four_bit_layer(device, low_bit)
        weight = _weight_back(layer)
        if mended:
            backend.mend_cpu_kernels(layer, training=True)
        x, gradient = _drawn(device.dtype, (8, INPUTS), (8, OUTPUTS))
        want = gradient.double() @ weight
        errors = {}
        for when in ("before an evaluation", "after one"):
            here = _leaf(x, device)
            output = layer.train()(here)
            if output.requires_grad:
                output.backward(gradient.to(device.place))
            got = torch.zeros_like(x) if here.grad is None else here.grad
            errors[when] = _error(got, want, device.dtype, OUTPUTS)
            with torch.no_grad():
                layer.eval()(x.to(device.place))
        return errors

    name = f"4-bit gradient, {_short(device.dtype)}"
    result = _judge(name, f"{_other_library(device)}; learning would stop", measure)
    if result.status == OK and _judge(name, "", lambda: measure(mended=False)).status == WRONG:
        return Result(name, OK, f"{result.detail}; bitsandbytes alone would lose it after an evaluation, which is mended here")
    return result


def four_bit_layer(device: Device, low_bit: str) -> tuple[torch.nn.Module, torch.Tensor]:
    """A Linear4bit on the device, quantised as a base model's are, and the weights that it was made from."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    (weight,) = _drawn(device.dtype, (OUTPUTS, INPUTS))
    with torch.random.fork_rng(devices=[]):  # a new layer draws weights
        layer = Linear4bit(INPUTS, OUTPUTS, bias=False, compute_dtype=device.dtype, quant_type=low_bit)
    layer.weight = Params4bit(weight, requires_grad=False, quant_type=low_bit, module=layer)
    return layer.to(device.place), weight


def attention_by_definition(query, key, value, mask: torch.Tensor) -> torch.Tensor:
    """softmax(QK' / sqrt(size)) V over what the mask lets see (Vaswani et al. 2017, equation 1)."""
    scores = query @ key.mT / query.shape[-1] ** 0.5
    return scores.masked_fill(~mask, float("-inf")).softmax(dim=-1) @ value


def kernel_of(output: torch.Tensor) -> str:
    """Which of SDPA's kernels made this output, from its graph: flash, efficient, cudnn, fused (XPU's oneDNN) or math."""
    nodes = [output.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None:
            continue
        for kernel in ("Flash", "Efficient", "Cudnn", "Fused"):
            if f"{kernel}Attention" in node.name():
                return kernel.lower()
        nodes += [before for before, _ in node.next_functions]
    return "math"


def _branching_rows() -> list[packing.Row]:
    """Three rows that share a beginning: 128 tokens, then 64, 64 and nothing of their own."""
    tokens = [[*range(128), *range(start, start + own)] for start, own in ((0, 0), (1000, 64), (2000, 64))]
    return [{"input_ids": ids, "labels": ids} for ids in tokens]


def _drawn(dtype: torch.dtype, *shapes: tuple[int, ...]) -> list[torch.Tensor]:
    """Normally distributed numbers on the CPU, the same ones every time."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


def _leaf(tensor: torch.Tensor, device: Device) -> torch.Tensor:
    return tensor.detach().to(device.place).requires_grad_()


def _weight_back(layer: torch.nn.Module) -> torch.Tensor:
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(layer.weight.data, layer.weight.quant_state).double().cpu()


def _error(got: torch.Tensor, want: torch.Tensor, dtype: torch.dtype, terms: int) -> Error:
    """Of sums of so many terms, computed in `dtype`; `want` is float64 on the CPU."""
    eps = torch.finfo(dtype).eps
    added = torch.finfo(torch.float32 if dtype == torch.bfloat16 else dtype).eps
    off, size = (got.detach().double().cpu() - want).abs(), want.square().mean().sqrt()
    return Error((off.square().mean().sqrt() / size).item(), (off / (size + want.abs())).max().item(),
                 ROUNDINGS * (eps + added * terms**0.5))


def _judge(name: str, remedy: str, measure: Callable[[], dict[str, Error]]) -> Result:
    """The errors that `measure` finds as a Result; what it raises, as kernels do, is one too."""
    try:
        errors = measure()
    except torch.OutOfMemoryError:
        return Result(name, WRONG, "there is no memory left for it", "end what else holds the device's memory")
    except Exception as error:  # whatever a kernel may raise
        return Result(name, WRONG, describe(error), remedy)
    wrong = {label: error for label, error in errors.items() if not error.small}
    if not wrong:
        largest = max(errors.values(), key=lambda error: error.mean / error.limit)
        return Result(name, OK, f"error {largest.mean:.2g}, below {largest.limit:.2g}")
    told = (f"{label}: error {error.mean:.2g} (a right one is below {error.limit:.2g})" for label, error in wrong.items())
    return Result(name, WRONG, ", ".join(itertools.islice(told, 3)), remedy)


def describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _ways_round(device: Device) -> str:
    types = [name for name in ("float16", "float32") if name != _short(device.dtype) and (device.type, name) != ("cpu", "float16")]
    if device.dtype == torch.float32 or not types:
        return "DEVICE (--device) cpu avoids it" if device.type != "cpu" else "another version of torch may avoid it"
    return f"DTYPE (--dtype) {' or '.join(types)} may avoid it"


def _other_library(device: Device) -> str:
    fault = "; before 0.50 its bfloat16 gemv was wrong on Arc" if device.type == "xpu" else ""
    return f"install the bitsandbytes that requirements.txt names{fault}; LOW_BIT (--low-bit) none does without it"
