"""SQL from a model: prompts answered together, decoded to the SQL alone, in the order of the rows."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Sequence

from peft import PeftModel

from sqlora.generation import self_consistency
from sqlora.generation.answer_journal import Journal
from sqlora.generation.self_consistency import Candidate
from sqlora.generation.transformers_generate import PlainWriter
from sqlora.model import architecture
from sqlora.model.backend import backend
from sqlora.model.device import free_memory
from sqlora.prompt import encoding, template
from sqlora.settings.settings import Settings
from sqlora.system import distributed
from sqlora.system.console import note, progress_bar
from sqlora.system.errors import UserError

if backend.TAKES_ATTENTION:
    from sqlora.generation import agreement
    from sqlora.generation.continuous_batching import BatchWriter
    from sqlora.model import merging

MERGED_FROM = 64  # rows; for fewer the folding takes longer than it saves
Rows = list[dict[str, str]]
# is told a row's place and its candidates, as soon as they are written
Answered = Callable[[int, list[Candidate]], None]


def answer_rows(
    model, tokenizer, rows: Rows, settings: Settings, journal: Journal, put_on: Callable | None = None
) -> list[dict[str, str | None]] | None:
    """Each row's question, context and answer, with the SQL of the base and of the adapter; None for what is not there.

    One model serves both: its adapter, if it has one, is switched off for the base's answers. Where
    MERGE_FOR_GENERATION comes to it, its 4-bit weights are made plain first, and the adapter folded into them for its
    own. An adapter that changes the base is not on it yet: `put_on` gives the model with it, once the base has
    answered. What `journal` has is not written again. Of several processes each writes its part, and the first gets
    all, as its journal does, the others None.
    """
    rank, world = distributed.rank_and_world()
    mine = range(rank, len(rows), world)
    has_adapter = isinstance(model, PeftModel)
    merges = not put_on and merge_pays_off(model, settings, len(mine))
    if merges:
        merging.dequantise(model, model.get_input_embeddings().weight.dtype)
    askers = {}
    if settings.MODEL != "adapter":
        askers["base"] = model.disable_adapter if has_adapter else contextlib.nullcontext
    if has_adapter or put_on:
        askers["adapter"] = contextlib.nullcontext
    with progress_bar("rows") as bar:
        for name, as_asker in askers.items():
            missing = [i for i in mine if (name, i) not in journal.found]
            task = bar.add_task(name, total=len(mine), completed=len(mine) - len(missing))
            if merges and name == "adapter":
                model = merging.merge_adapter(model)
            if put_on and name == "adapter":
                model = put_on(model)

            def answered(place: int, written: list[Candidate], name=name, missing=missing, task=task) -> None:
                journal.add(name, missing[place], written)
                bar.advance(task)

            with as_asker():
                SqlWriter(model, tokenizer, settings, tells=name == next(iter(askers))).candidates(
                    [rows[i] for i in missing], answered, missing
                )
    parts = distributed.gather_bytes(
        json.dumps([(name, i, journal.found[name, i]) for name in askers for i in mine]).encode()
    )
    if parts is None:
        return None
    journal.found |= {
        (name, i): [Candidate(*one) for one in found] for part in parts for name, i, found in json.loads(part)
    }
    answers = {name: pick(rows, [journal.found[name, i] for i in range(len(rows))]) for name in askers}
    return [
        {key: row.get(key) for key in ("question", "context", "answer")}
        | {name: answers[name][i] if name in answers else None for name in ("base", "adapter")}
        for i, row in enumerate(rows)
    ]


def pick(rows: Rows, candidates: list[list[Candidate]]) -> list[str]:
    """The SQL of each row: its one candidate, or the one that `voting.choose` takes."""
    if all(len(written) == 1 for written in candidates):
        return [written[0].sql for written in candidates]
    return self_consistency.choose_consistent([row["context"] for row in rows], candidates)


def merge_pays_off(model, settings: Settings, rows: int) -> bool:
    """What MERGE_FOR_GENERATION comes to: plain weights decode batches faster, where they fit beside the 4-bit ones."""
    if not backend.UNPACKS or settings.MERGE_FOR_GENERATION == "off":
        return False
    if settings.MERGE_FOR_GENERATION == "on":
        return True
    free = free_memory(model.device.type)
    plain = model.num_parameters() * model.get_input_embeddings().weight.dtype.itemsize
    return model.device.type != "cpu" and rows >= MERGED_FROM and free is not None and plain < free / 2


def check_processes() -> None:
    """Raises UserError for a launcher that asks to spread the base: rows are written by each process at its own
    pace.
    """
    if distributed.rank_info().sharded:
        raise UserError(
            "accelerate's configuration asks for FSDP, and generate.py keeps the whole base on every device; launch "
            "it without (docs/scale/one_host.yaml), or without a launcher"
        )


class SqlWriter:
    """Writes SQL with a model as it is now, its adapter switched on or off; what it sets up for that serves all later
    calls.
    """

    def __init__(self, model, tokenizer, settings: Settings, tells: bool = True):
        self.model = model
        self.tokenizer = tokenizer
        self.settings = settings
        self.tells = tells  # how the answers are written, if it is not as usual

    def write(self, rows: Rows) -> list[str]:
        """The model's SQL for each row's question and context, in the order of `rows`; see `candidates`."""
        return pick(rows, self.candidates(rows))

    def candidates(
        self, rows: Rows, answered: Answered = lambda place, written: None, places: Sequence[int] | None = None
    ) -> list[list[Candidate]]:
        """NUM_CANDIDATES queries for each row, the likeliest first: the best beams, or the greedy one and samples, by
        SEED.

        Raises UserError for a prompt that leaves no room for an answer, with its row's place among `places`, if they
        are given.
        """
        prompts = encoding.encode_prompts(self.tokenizer, rows, self.settings.PROMPT_ORDER)
        longest = self._check_lengths(prompts, range(len(rows)) if places is None else places)
        found: list[list[Candidate]] = [[] for _ in rows]

        def ended(number: int, written: list[tuple[list[int], float]]) -> None:
            found[number] = [Candidate(self._sql(ids), weight) for ids, weight in written]
            answered(number, found[number])

        self._writer(longest).write(prompts, ended)
        return found

    def _writer(self, longest: int) -> BatchWriter | PlainWriter:
        """What writes answers of which none has more than `longest` tokens, its prompt counted."""
        unfit = architecture.why_inexact(self.model.config, longest)
        if backend.TAKES_ATTENTION and not unfit:
            return self.batches
        if self.tells and backend.TAKES_ATTENTION:
            note(f"answers are written by transformers' generate, in small batches: {unfit}")
            self.tells = False
        return PlainWriter(
            self.model, self.settings, self.tokenizer, alone=architecture.goes_alone(self.model.config, longest)
        )

    @functools.cached_property
    def batches(self) -> BatchWriter:
        agreement.check_answering(self.model)
        return BatchWriter(self.model, self.settings, architecture.end_tokens(self.model, self.tokenizer))

    def _sql(self, ids: list[int]) -> str:
        return template.extract_sql(encoding.decode_answer(self.tokenizer, ids))

    def _check_lengths(self, prompts: list[list[int]], places: Sequence[int]) -> int:
        """The tokens of the longest prompt and its answer."""
        new, window = self.settings.MAX_NEW_TOKENS, architecture.longest_row(self.model.config)
        for place, ids in zip(places, prompts, strict=True):
            if len(ids) + new > window:
                raise UserError(
                    f"row {place + 1}: its prompt has {len(ids)} tokens, and with MAX_NEW_TOKENS (--max-new-tokens) "
                    f"{new} it does not fit the model's window of {window}; shorten the context"
                )
        return max(map(len, prompts), default=0) + new
