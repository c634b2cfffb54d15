"""Continuous batching: as many prompts at once as the memory holds; slots of answers that have ended are refilled."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Collection, Sequence

import torch

from sqlora.generation.constraint import Constraint
from sqlora.generation.decoder import Decoder, compile_layers, slot_attention
from sqlora.generation.kv_cache import reads_lengths, shape_of_keys, slot_bytes
from sqlora.generation.token_search import BeamAnswers, Beams, Ended, SampledAnswers, Samples
from sqlora.model.device import available_memory
from sqlora.model.transformers_compat import has_triton
from sqlora.settings.settings import Settings
from sqlora.system.console import note
from sqlora.system.errors import UserError

MOST_SLOTS = {"cpu": 64, "cuda": 512, "xpu": 512}  # beyond which a batch is hardly faster
CACHE_SHARE = 0.8  # of the free memory that slots may take; the rest is for the passes that fill them
SLOT_STEP, SLOT_STEP_ALONE = 64, 512  # tokens by which slots grow, so that the next prompts fit too
LEAST_NEW_TOKENS = 8  # tokens beyond a prompt, since prefilled rows are padded
REFILL = 8  # refill once 1/REFILL of the slots are free: prefilling one row costs as much as a decode step
COMPILE_FROM = 20_000  # answers; compiling takes as long as it saves on about as many
AHEAD = ("cuda", "xpu")  # where a step begins before the processor knows the tokens that it is fed
WORTH = 8  # tokens that prompts must share for a separate forward pass to pay


class BatchWriter:
    """Answers prompts by continuous batching; the cache and graphs are reused by the next call.

    `eos` is the token that ends an answer, or several.

        BatchWriter(model, settings, eos).write(prompts, lambda index, answers: print(index, answers))
    """

    def __init__(self, model, settings: Settings, eos: int | Collection[int]):
        self.model = model
        self.settings = settings
        ends = {eos} if isinstance(eos, int) else frozenset(eos)
        self.strategy = (Beams if settings.NUM_BEAMS > 1 else Samples)(settings, ends)
        self.most_slots = settings.GENERATION_BATCH_SIZE * self.strategy.width or MOST_SLOTS[model.device.type]
        self.decoder: Decoder | None = None
        self.constraints: Sequence[Constraint | None] = []
        self.picked: Picked | None = None
        self.compiled = settings.COMPILE == "off"  # or will not be

    @torch.inference_mode()
    def write(
        self, prompts: list[list[int]], ended: Ended, constraints: Sequence[Constraint | None] | None = None
    ) -> None:
        """Calls `ended` with a prompt's index and its answers, likeliest first, as soon as they are complete.
        `constraints` has what the answers to each prompt may be.

        Raises UserError if not even one row fits into memory.
        """
        self.model.eval()
        self.constraints = constraints or [None] * len(prompts)
        shared = shared_length(prompts)
        weight = self.model.get_input_embeddings().weight
        outside = shared if reads_lengths(weight.device, weight.dtype, shape_of_keys(self.model.config)[1]) else 0
        queue = deque(sorted(range(len(prompts)), key=lambda i: -len(prompts[i])))
        with slot_attention(self.model):
            if not self.compiled and (self.settings.COMPILE == "on" or self._compiling_pays(len(prompts))):
                self.compiled = True
                compile_layers(self.model, self.strategy.width)
            while queue:
                # For one question at a time: the next one finds slots of the same size, and the graph of a step.
                slot_size = self._slot_size(
                    prompts[queue[0]], outside, SLOT_STEP if len(prompts) > 1 else SLOT_STEP_ALONE
                )
                groups = self._fitting(slot_size)
                # If slots for the longest prompt are too large for all, it is answered first, with similar ones.
                similar = (
                    len(queue)
                    if groups >= min(len(queue), self._wanted())
                    else sum(self._slot_size(prompts[i], outside) > slot_size // 2 for i in queue)
                )
                band = deque(queue.popleft() for _ in range(similar))
                while band:
                    groups = min(groups, len(band))
                    self._write(band, prompts, shared, groups, slot_size, ended)
                    groups = max(1, groups // 2)  # there is a next time only if memory ran out

    def _write(
        self, band: deque[int], prompts: list[list[int]], shared: int, groups: int, slot_size: int, ended: Ended
    ) -> None:
        """Answers `band`; if so many groups do not fit into memory, unanswered rows stay in it."""
        active: dict[int, tuple[int, SampledAnswers | BeamAnswers]] = {}
        try:
            decoder = self._decoder(groups, slot_size)
            decoder.keep_prefix(prompts[band[0]][:shared])
            self.picked = None
            while band or active:
                free = [group for group in range(decoder.groups) if group not in active]
                if band and (not active or len(free) * REFILL >= decoder.groups):
                    self._take(decoder, active, ended, steps=1)
                    taken = list(zip(free, band, strict=False))
                    rows = [(i, self.strategy.begin(prompts[i], self.constraints[i])) for _, i in taken]
                    logits = decoder.fill([group for group, _ in taken], [prompts[i] for i, _ in rows])
                    for (group, _), row in zip(taken, rows, strict=True):
                        active[group] = row
                        band.popleft()
                        if row[1].constraint is not None:
                            row[1].constraint.prepare()
                    self._choose(decoder, active, [group for group, _ in taken], logits[:, None], ended)
                elif not band and len(active) * 2 <= decoder.groups:
                    self._take(decoder, active, ended, steps=1)
                    if active:
                        decoder.keep_groups(list(active))
                        active = dict(enumerate(active.values()))
                if active:
                    logits = decoder.step().unflatten(0, (-1, decoder.width))
                    groups_now = sorted(active.keys() - self._take(decoder, active, ended, steps=2))
                    if groups_now:
                        now = logits if len(groups_now) == decoder.groups else logits[decoder.sent(groups_now)]
                        self._choose(decoder, active, groups_now, now, ended)
            return
        except torch.OutOfMemoryError:
            pass
        # Not where the error is caught, since it references what was computed.
        self.decoder = None
        del decoder
        band.extendleft(sorted((i for i, _ in active.values()), key=lambda i: len(prompts[i])))
        if groups == 1:
            raise UserError(
                f"a prompt of {len(prompts[band[0]])} tokens does not fit into the device's memory with the model; "
                f"set LOW_BIT (--low-bit) to nf4, or shorten the context"
            )
        if self.model.device.type != "cpu":
            torch.accelerator.empty_cache()
        self.most_slots = groups // 2 * self.strategy.width
        note(f"{groups} rows at a time did not fit into the memory; from here on at most {groups // 2}")

    def _choose(self, decoder: Decoder, active: dict, groups: list[int], logits: torch.Tensor, ended: Ended) -> None:
        """Chooses the next tokens of these groups. `logits`: [groups, 1 or width, vocabulary].

        Samples are fed on where they are picked. The rows take them later, as the device works on the next step, but
        those whose constraint has to be asked first.
        """
        rows = [active[group][1] for group in groups]
        if isinstance(self.strategy, Beams):
            self.strategy.choose(logits, rows)
            decoder.feed(groups, torch.tensor([row.tokens() for row in rows]))
            decoder.move(
                {
                    group * decoder.width + column: group * decoder.width + parent
                    for group, row in zip(groups, rows, strict=True)
                    for column, parent in enumerate(row.parents)
                }
            )
            self._free(decoder, active, [group for group in groups if active[group][1].done], ended)
            return
        numbers = self.strategy.pick(logits, rows)
        decoder.feed(groups, numbers[0].long())
        picked = self.picked = Picked(groups, numbers)
        at_once = self.model.device.type not in AHEAD
        for i, row in enumerate(rows):
            if row.is_careful or (at_once and row.constraint is not None):
                picked.rows[i] = self.strategy.allowed(row, *picked.rows[i], logits[i])
                picked.asked.add(groups[i])
                if row.refused:
                    decoder.feed([groups[i]], torch.tensor([picked.rows[i][0]]))
        if at_once:
            self._take(decoder, active, ended, steps=1)

    def _take(self, decoder: Decoder, active: dict, ended: Ended, steps: int) -> set[int]:
        """The rows take what was picked for them. Returns the groups whose constraint forbids it: they go back so many
        `steps`, 2 where the device works on what was picked already.
        """
        picked, self.picked = self.picked, None
        if picked is None:
            return set()
        back, done = set(), []
        for group, (tokens, scores) in zip(picked.groups, picked.rows, strict=True):
            row = active[group][1]
            if row.constraint is not None and group not in picked.asked and row.refuses(tokens):
                decoder.step_back(group, row.tokens(), steps)
                back.add(group)
                continue
            row.take(tokens, scores)
            if row.done:
                done.append(group)
        self._free(decoder, active, done, ended)
        return back

    def _free(self, decoder: Decoder, active: dict, groups: list[int], ended: Ended) -> None:
        """Frees these groups, whose rows are done."""
        for group in groups:
            number, row = active.pop(group)
            ended(number, row.written())
            decoder.free(group)

    def _compiling_pays(self, rows: int) -> bool:
        return rows * self.strategy.width >= COMPILE_FROM and self.model.device.type != "cpu" and has_triton()

    def _decoder(self, groups: int, slot_size: int) -> Decoder:
        if self.decoder is None or self.decoder.groups != groups or self.decoder.slot_size < slot_size:
            self.decoder = None  # before the next one allocates memory
            self.decoder = Decoder(self.model, groups, self.strategy.width, slot_size)
        return self.decoder

    def _slot_size(self, prompt: list[int], outside: int, step: int = SLOT_STEP) -> int:
        """Tokens that a slot needs for a prompt, of which `outside` are stored outside the slots, and its answer."""
        need = len(prompt) - outside + max(self.settings.MAX_NEW_TOKENS, LEAST_NEW_TOKENS)
        return need + -need % step

    def _wanted(self) -> int:
        return max(1, self.most_slots // self.strategy.width)

    def _fitting(self, slot_size: int) -> int:
        """Groups of slots of this size that fit into the free memory, but no more than are wanted."""
        if self.settings.GENERATION_BATCH_SIZE:
            return self._wanted()
        weight = self.model.get_input_embeddings().weight
        free = available_memory(self.model.device.type)
        if self.decoder:  # which the next replaces
            free += self.decoder.cache.bytes()
        group = self.strategy.width * (
            slot_bytes(self.model.config, slot_size, weight.device, weight.dtype) + 4 * weight.shape[0] * 4
        )
        return max(1, min(self._wanted(), int(CACHE_SHARE * free / group)))


class Picked:
    """What was picked for `groups`, `numbers` as `Samples.pick` returns them. The device is waited for once they are
    read.
    """

    def __init__(self, groups: list[int], numbers: torch.Tensor) -> None:
        self.groups = groups
        self.asked: set[int] = set()  # groups whose constraint has been asked
        self._numbers = numbers.to("cpu", non_blocking=True)
        on_device = numbers.device.type != "cpu"
        self._there = torch.accelerator.current_stream().record_event() if on_device else None

    @functools.cached_property
    def rows(self) -> list[tuple[list[int], list[float]]]:
        """The tokens of each group, and their log-probabilities."""
        if self._there:
            self._there.synchronize()
        tokens, scores = self._numbers
        return list(zip(tokens.long().tolist(), scores.tolist(), strict=True))


def shared_length(prompts: list[list[int]]) -> int:
    """The number of tokens that all prompts share, at least one less than the shortest has; 0 if it does not pay
    it.
    """
    if len(prompts) < 2:
        return 0
    first, last = min(prompts), max(prompts)  # in the order of a dictionary: what these two share, all between them do
    equal = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    length = min(equal, min(map(len, prompts)) - 1)
    return length if length >= WORTH else 0
