"""SQL from a model: prompts answered together, decoded to the SQL alone, in the order of the rows."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable

from peft import PeftModel

from sqlora import passes, prompt, voting
from sqlora.console import progress_bar
from sqlora.device import free_memory
from sqlora.errors import UserError
from sqlora.plain import PlainWriter
from sqlora.settings import Settings
from sqlora.stack import LEGACY
from sqlora.voting import Candidate

if not LEGACY:
    from sqlora import folding
    from sqlora.batching import BatchWriter

FOLDED_FROM = 64  # rows; for fewer the folding takes longer than it saves
Rows = list[dict[str, str]]
Advance = Callable[[int], None]


def answer_rows(model, tokenizer, rows: Rows, settings: Settings) -> list[dict[str, str | None]]:
    """Each row's question, context and answer, with the SQL of the base and of the adapter; None for what is not there.

    One model serves both: its adapter, if it has one, is switched off for the base's answers. Where MERGE_FOR_GENERATION comes
    to it, its 4-bit weights are made plain first, and the adapter folded into them for its own.
    """
    has_adapter = isinstance(model, PeftModel)
    merges = folding_pays(model, settings, len(rows))
    if merges:
        folding.unpack(model, model.get_input_embeddings().weight.dtype)
    askers = {}
    if settings.MODEL != "adapter":
        askers["base"] = model.disable_adapter if has_adapter else contextlib.nullcontext
    if has_adapter:
        askers["adapter"] = contextlib.nullcontext
    answers: dict[str, list[str]] = {}
    with progress_bar("rows") as bar:
        for name, as_asker in askers.items():
            task = bar.add_task(name, total=len(rows))
            if merges and name == "adapter":
                model = folding.fold(model)
            with as_asker():
                answers[name] = SqlWriter(model, tokenizer, settings).write(rows, functools.partial(bar.advance, task))
    return [
        {key: row.get(key) for key in ("question", "context", "answer")}
        | {name: answers[name][i] if name in answers else None for name in ("base", "adapter")}
        for i, row in enumerate(rows)
    ]


def folding_pays(model, settings: Settings, rows: int) -> bool:
    """What MERGE_FOR_GENERATION comes to: plain weights decode batches faster, where they fit beside the 4-bit ones."""
    if LEGACY or settings.MERGE_FOR_GENERATION != "auto":
        return not LEGACY and settings.MERGE_FOR_GENERATION == "on"
    free = free_memory(model.device.type)
    plain = model.num_parameters() * model.get_input_embeddings().weight.dtype.itemsize
    return model.device.type != "cpu" and rows >= FOLDED_FROM and free is not None and plain < free / 2


class SqlWriter:
    """Writes SQL with a model as it is now, its adapter switched on or off; what it sets up for that serves all later calls."""

    def __init__(self, model, tokenizer, settings: Settings):
        self.model = model
        self.tokenizer = tokenizer
        self.settings = settings

    def write(self, rows: Rows, advance: Advance = lambda done: None) -> list[str]:
        """The model's SQL for each row's question and context, in the order of `rows`.

        With NUM_CANDIDATES above 1 several are written for each, and `voting.choose` takes one. `advance` is called with the
        number of rows that were answered since its last call. Raises UserError for a prompt that leaves no room for an answer.
        """
        candidates = self.candidates(rows, advance)
        if self.settings.NUM_CANDIDATES == 1:
            return [written[0].sql for written in candidates]
        return voting.choose([row["context"] for row in rows], candidates)

    def candidates(self, rows: Rows, advance: Advance = lambda done: None) -> list[list[Candidate]]:
        """NUM_CANDIDATES queries for each row, the likeliest first: the best beams, or the greedy one and samples, by SEED."""
        prompts = prompt.encode_prompts(self.tokenizer, rows, self.settings.PROMPT_ORDER)
        longest = self._check_lengths(prompts)
        found: list[list[Candidate]] = [[] for _ in rows]

        def ended(number: int, written: list[tuple[list[int], float]]) -> None:
            found[number] = [Candidate(self._sql(ids), weight) for ids, weight in written]
            advance(1)

        knows = not LEGACY and passes.attends_to_all(self.model.config, longest)
        (self.batches if knows else PlainWriter(self.model, self.settings, self.tokenizer)).write(prompts, ended)
        return found

    @functools.cached_property
    def batches(self) -> BatchWriter:
        return BatchWriter(self.model, self.settings, self.tokenizer.eos_token_id)

    def _sql(self, ids: list[int]) -> str:
        return prompt.extract_sql(prompt.decode_answer(self.tokenizer, ids))

    def _check_lengths(self, prompts: list[list[int]]) -> int:
        """The tokens of the longest prompt and its answer."""
        new, window = self.settings.MAX_NEW_TOKENS, self.model.config.max_position_embeddings
        for number, ids in enumerate(prompts, start=1):
            if len(ids) + new > window:
                raise UserError(f"row {number}: its prompt has {len(ids)} tokens, and with MAX_NEW_TOKENS (--max-new-tokens) "
                                f"{new} it does not fit the model's window of {window}; shorten the context")
        return max(map(len, prompts), default=0) + new
