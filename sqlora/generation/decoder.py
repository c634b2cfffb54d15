"""The step engine of continuous batching: prefill prompts into slots, then decode a token for every slot at a time."""

from __future__ import annotations

import contextlib
import functools
import time
from typing import Any

import torch

from sqlora.generation.kv_cache import APPEND, ATTENTION, FILL, KEEP, ForwardStep, Layer, SlotCache
from sqlora.model.device import LENGTH_STEP
from sqlora.model.merging import base_of
from sqlora.system.console import note
from sqlora.system.errors import one_line

WINDOW_STEP = 64  # tokens by which attention's window grows where the kernel does not read the lengths
FILL_TOKENS = {"cpu": 2_048}  # most tokens of a pass that fills slots
FILL_TOKENS_ELSEWHERE = 16_384
WARM_UPS = 2  # of what is captured in a graph


class Decoder:
    """Decodes `groups` rows, each in `width` adjacent slots of `slot_size` tokens.

    On CUDA and XPU a step is captured as a graph once and then replayed, since launching its kernels takes longer than
    running them.

        decoder.keep_prefix(prefix); logits = decoder.fill([0, 1], prompts); decoder.feed(...); logits = decoder.step()
    """

    def __init__(self, model, groups: int, width: int, slot_size: int):
        self.model = model
        self.base = base_of(model)
        self.device: torch.device = model.device
        embeddings: Any = self.base.get_input_embeddings()
        self.dtype: torch.dtype = embeddings.weight.dtype
        self.width, self.slot_size = width, slot_size
        self.cache = SlotCache(self.base.config, groups * width, slot_size, self.dtype, self.device)
        self.lengths = [0] * groups * width  # tokens in each slot
        self.starts = [0] * groups * width  # tokens of its prompt; 0 if it is free
        self.prefix: list[int] = []
        self.outside = 0  # tokens of the prefix that are stored outside the slots
        self.graphs_work = self.device.type != "cpu"
        # The token that each slot is fed next, and what is in it.
        self.fed, self.length_tensor = (
            torch.zeros(len(self.lengths), dtype=torch.int64, device=self.device) for _ in range(2)
        )
        self.graphs: dict[int | None, tuple[Any, torch.Tensor]] = {}

    @property
    def groups(self) -> int:
        """The number of rows that it decodes at a time."""
        return len(self.lengths) // self.width

    @torch.inference_mode()
    def keep_prefix(self, ids: list[int]) -> None:
        """What all prompts begin with from now on."""
        if ids == self.prefix:
            return
        self.prefix, self.outside = ids, len(ids) if self.cache.prefix_outside else 0
        self.graphs = {}
        self.cache.forget_prefix()
        if ids:
            with self._last_alone(torch.tensor([len(ids) - 1])):
                self._logits(
                    ForwardStep(KEEP),
                    input_ids=torch.tensor([ids], device=self.device),
                    position_ids=torch.arange(len(ids), device=self.device)[None],
                )

    @torch.inference_mode()
    def fill(self, groups: list[int], prompts: list[list[int]]) -> torch.Tensor:
        """Prefills each prompt into a group's slots; its next token's logits, [prompts, vocabulary], float32 or wider.

        Prompts begin with the prefix and have at least one token more; those of similar length should be adjacent.
        """
        rests = [prompt[len(self.prefix) :] for prompt in prompts]
        fill = self._fill_packed if self.cache.prefix_outside else self._fill_padded
        most = FILL_TOKENS.get(self.device.type, FILL_TOKENS_ELSEWHERE)
        first, total, longest, logits = 0, 0, 0, []
        for last, rest in enumerate(rests):
            total, longest = total + len(rest), max(longest, len(rest))
            if last > first and (total if self.cache.prefix_outside else longest * (last + 1 - first)) > most:
                logits.append(fill(groups[first:last], rests[first:last]))
                first, total, longest = last, len(rest), len(rest)
        logits.append(fill(groups[first:], rests[first:]))
        return torch.cat(logits)

    def _fill_packed(self, groups: list[int], rests: list[list[int]]) -> torch.Tensor:
        """Fills by a pass without padding, the rests of the prompts one behind the other."""
        lengths, start = torch.tensor([len(rest) for rest in rests]), len(self.prefix)
        ends = lengths.cumsum(0)
        places = torch.arange(int(ends[-1])) - (ends - lengths).repeat_interleave(lengths)
        with self._last_alone(ends - 1):
            return self._logits(
                ForwardStep(
                    FILL,
                    slots=self.sent(self._filled(groups, rests).repeat_interleave(lengths, dim=0)),
                    places=self.sent(places),
                ),
                input_ids=self.sent([token for rest in rests for token in rest])[None],
                position_ids=self.sent(start + places)[None],
                starts=self.sent(torch.nn.functional.pad(ends, (1, 0)).int()),
                longest=int(lengths.max()),
            )

    def _fill_padded(self, groups: list[int], rests: list[list[int]]) -> torch.Tensor:
        start, length = len(self.prefix), max(map(len, rests))
        length = min(length + -length % LENGTH_STEP, self.slot_size - start)
        mask = torch.ones(length, start + length, dtype=torch.bool, device=self.device).tril(start)
        with self._last_alone(torch.tensor([i * length + len(rest) - 1 for i, rest in enumerate(rests)])):
            return self._logits(
                ForwardStep(FILL, slots=self.sent(self._filled(groups, rests))),
                input_ids=self.sent(torch.tensor([rest + [0] * (length - len(rest)) for rest in rests])),
                attention_mask=mask[None, None],
                position_ids=torch.arange(start, start + length, device=self.device)[None],
            )

    def _filled(self, groups: list[int], rests: list[list[int]]) -> torch.Tensor:
        """The slots of groups that are filled, int64 [groups, width], and notes their lengths."""
        slots = torch.tensor([[group * self.width + column for column in range(self.width)] for group in groups])
        for of_group, rest in zip(slots.tolist(), rests, strict=True):
            for slot in of_group:
                self.lengths[slot] = self.starts[slot] = len(self.prefix) + len(rest) - self.outside
        return slots

    @torch.inference_mode()
    def feed(self, groups: list[int], tokens: torch.Tensor) -> None:
        """What the next step feeds the slots of these groups, in ascending order: int64 [groups, width], anywhere."""
        if len(groups) == self.groups:  # in order
            self.fed.copy_(self.sent(tokens.flatten()))
        else:
            self.fed.view(-1, self.width)[self.sent(groups)] = self.sent(tokens)

    def sent(self, numbers: list[int] | torch.Tensor) -> torch.Tensor:
        """Numbers on the device, which is not waited for."""
        numbers = torch.as_tensor(numbers)
        if numbers.device.type == "cpu" != self.device.type:
            numbers = numbers.pin_memory()
        return numbers.to(self.device, non_blocking=True)

    @torch.inference_mode()
    def step(self) -> torch.Tensor:
        """Feeds every slot its token: the logits of what follows, [slots, vocabulary], float32 or wider. The next step
        writes into the same tensor.
        """
        self.length_tensor.copy_(self.sent(self.lengths))
        longest = max(self.lengths) + 1
        window = None if self.cache.prefix_outside else min(self.slot_size, longest + -longest % WINDOW_STEP)
        self.lengths = [length + 1 if start else 0 for length, start in zip(self.lengths, self.starts, strict=True)]
        if not self.graphs_work:
            return self._append(window)
        if window not in self.graphs:
            try:
                self.graphs[window] = self._capture(window)
            except RuntimeError as error:
                if isinstance(error, torch.OutOfMemoryError):
                    raise
                note(
                    f"decode steps are not captured as graphs, which does not work here "
                    f"({str(error).splitlines()[0][:200]}): generation will be slower"
                )
                self.graphs_work = False
                return self._append(window)
        graph, logits = self.graphs[window]
        graph.replay()
        return logits

    def _capture(self, window: int | None) -> tuple[Any, torch.Tensor]:
        """The graph of a step, and the tensor that its replay fills. The replay writes again what the warm-ups
        wrote.
        """
        module = torch.get_device_module(self.device.type)
        side = module.Stream()
        side.wait_stream(module.current_stream())
        with module.stream(side):
            for _ in range(WARM_UPS):
                self._append(window)
        module.current_stream().wait_stream(side)
        graph = getattr(module, f"{self.device.type.upper()}Graph")()
        with module.graph(graph):
            logits = self._append(window)
        return graph, logits

    def _append(self, window: int | None) -> torch.Tensor:
        return self._logits(
            ForwardStep(APPEND, lengths=self.length_tensor, window=window),
            input_ids=self.fed[:, None],
            lengths=self.length_tensor,
            position_ids=self.length_tensor[:, None] + self.outside,
            reads_lengths=self.cache.prefix_outside,
        )

    def _logits(self, now: ForwardStep, **inputs) -> torch.Tensor:
        vars(self.cache.now).update(vars(now))
        with self._caches_given():
            logits = self.model(use_cache=True, **inputs).logits[:, -1]
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    @contextlib.contextmanager
    def _caches_given(self):
        """Hands each decoder layer its own layer of the cache.

        Indexing by layer number would make torch.compile specialise for every layer.
        """
        layers = zip(self.base.get_decoder().layers, self.cache.layers, strict=True)
        hooks = [
            layer.register_forward_pre_hook(functools.partial(_give, own), with_kwargs=True) for layer, own in layers
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @contextlib.contextmanager
    def _last_alone(self, last: torch.Tensor):
        """Within it logits are computed for the tokens `last` alone, int64 [rows], of all rows' tokens in one."""
        last = self.sent(last)

        def pick(module, arguments):
            (hidden,) = arguments
            return hidden.flatten(0, 1)[last][:, None]

        hook = self.base.get_output_embeddings().register_forward_pre_hook(pick)
        try:
            yield
        finally:
            hook.remove()

    def move(self, sources: dict[int, int]) -> None:
        """Lets slots, the keys of `sources`, continue from the slots that are its values; they have the same
        prompt.
        """
        moved = {slot: source for slot, source in sources.items() if slot != source}
        if moved:
            span = min(self.starts[slot] for slot in moved), max(self.lengths[slot] for slot in moved)
            targets, origins = (torch.tensor(list(part), device=self.device) for part in (moved.keys(), moved.values()))
            self.cache.move(targets, origins, *span)

    def step_back(self, group: int, tokens: list[int], steps: int) -> None:
        """Its slots are as before their last `steps` tokens; they are fed `tokens`, the first of these, again."""
        self.feed([group], torch.tensor([tokens]))
        for slot in range(group * self.width, (group + 1) * self.width):
            self.lengths[slot] -= steps

    def free(self, group: int) -> None:
        """Its row has ended."""
        for slot in range(group * self.width, (group + 1) * self.width):
            self.lengths[slot] = self.starts[slot] = 0

    def keep_groups(self, groups: list[int]) -> None:
        """Keeps only these groups, renumbered in this order, which makes a step faster."""
        slots = [group * self.width + column for group in groups for column in range(self.width)]
        for part in (self.lengths, self.starts):
            part[:] = [part[slot] for slot in slots]
        kept = self.sent(slots)
        self.fed, self.length_tensor, self.graphs = self.fed[kept], self.length_tensor[kept], {}
        self.cache.keep_slots(kept)


def _give(cache: Layer, module, arguments: tuple, keywords: dict) -> tuple[tuple, dict]:
    return arguments, keywords | {"past_key_values": cache}


def compile_layers(model, width: int) -> None:
    """Compiles the decoder's layers, once for all lengths. Where the compiler fails they stay as they were; a note says
    so.
    """
    base = base_of(model)
    layers = base.get_decoder().layers
    plain = [layer.forward for layer in layers]
    start = time.perf_counter()
    try:
        for layer in layers:
            layer.forward = torch.compile(layer.forward, dynamic=True)
        # Sizes that no model has: the compiler takes two equal sizes for one.
        trial = Decoder(model, 17, width, slot_size=92)
        trial.graphs_work = False
        prefix, rest = [1] * 7, [1] * 52  # padded to 56
        trial.keep_prefix(prefix)
        trial.fill([*range(13)], [prefix + rest] * 13)
        trial.step()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a compiler may raise
        for layer, forward in zip(layers, plain, strict=True):
            layer.forward = forward
        note(f"the layers are not compiled, since torch.compile does not work here ({one_line(error)})")
        return
    note(f"the layers were compiled in {time.perf_counter() - start:.0f} s")


@contextlib.contextmanager
def slot_attention(model):
    """Within it the model's attention is that of slots."""
    base = base_of(model)
    before = base.config._attn_implementation
    base.set_attn_implementation(ATTENTION)
    try:
        yield
    finally:
        base.set_attn_implementation(before)
