"""SQL for rows: prompts are answered together, and the SQL is extracted, in the order of the rows."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import PeftModel

from sqlora.evaluation.judge import AnsweredRow
from sqlora.generation import self_consistency
from sqlora.generation.answer_journal import Journal
from sqlora.generation.candidate import Candidate
from sqlora.generation.constraint import Constraint, constraints
from sqlora.generation.token_search import Written
from sqlora.generation.transformers_generate import PlainWriter
from sqlora.model import architecture
from sqlora.model.backend import backend
from sqlora.model.base_models import BaseModel
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

MERGED_FROM = 64  # rows; for fewer merging takes longer than it saves
Rows = list[dict[str, str]]
# is called with a row's index and its candidates, as soon as they are complete
Answered = Callable[[int, list[Candidate]], None]


@dataclass(frozen=True)
class AnsweringModel:
    """The base model, or the PeftModel around it, its tokenizer, and the folders of both.

    An adapter that changes the base itself is not on the model yet: `add_adapter` returns the model with it, once the
    base has answered; None where there is nothing left to add. `schema_style` is that of the adapter's training, or
    else SCHEMA_STYLE.
    """

    model: Any
    tokenizer: Any
    base: BaseModel
    adapter_folder: Path | None = None
    add_adapter: Callable[[Any], Any] | None = None
    schema_style: str = "auto"


def answer_rows(
    model, tokenizer, rows: Rows, settings: Settings, journal: Journal, add_adapter: Callable | None = None
) -> list[AnsweredRow] | None:
    """Each row's question, context and answer, with the SQL of base and adapter, None for what does not exist, and the
    `decoding` of each.

    One model serves both: for the base's answers its adapter is switched off. Where MERGE_FOR_GENERATION resolves to
    on, its 4-bit weights are dequantised first, and the adapter is merged into them for its own answers. An adapter
    that changes the base is not loaded yet: `add_adapter` returns the model with it, once the base has answered.
    Answers that the journal has are not written again. In a distributed run each process writes its part, and the main
    process returns all, as its journal then has, the others None.
    """
    rank, world = distributed.rank_and_world()
    mine = range(rank, len(rows), world)
    has_adapter = isinstance(model, PeftModel)
    merges = not add_adapter and merge_pays_off(model, settings.MERGE_FOR_GENERATION, len(mine))
    if merges:
        merging.dequantise(model, model.get_input_embeddings().weight.dtype)
    variants: dict[str, Callable[[], contextlib.AbstractContextManager]] = {}
    if settings.MODEL != "adapter":
        variants["base"] = model.disable_adapter if has_adapter else contextlib.nullcontext
    if has_adapter or add_adapter:
        variants["adapter"] = contextlib.nullcontext
    with progress_bar("rows") as bar:
        for variant, as_variant in variants.items():
            missing = [i for i in mine if (variant, i) not in journal.written]
            task = bar.add_task(variant, total=len(mine), completed=len(mine) - len(missing))
            if merges and variant == "adapter":
                model = merging.merge_adapter(model)
            if add_adapter and variant == "adapter":
                model = add_adapter(model)

            def answered(index: int, candidates: list[Candidate], variant=variant, missing=missing, task=task) -> None:
                journal.add(variant, missing[index], candidates)
                bar.advance(task)

            with as_variant():
                SqlWriter(model, tokenizer, settings, prints_notes=variant == next(iter(variants))).candidates(
                    [rows[i] for i in missing], answered, missing
                )
    mine_written = [(variant, i, journal.written[variant, i]) for variant in variants for i in mine]
    parts = distributed.gather_bytes(json.dumps(mine_written).encode())
    if parts is None:
        return None
    journal.written |= {
        (variant, i): [Candidate.of(candidate) for candidate in candidates]
        for part in parts
        for variant, i, candidates in json.loads(part)
    }
    every = range(len(rows))
    answers = {v: pick(rows, [journal.written[v, i] for i in every], settings.SQL_DIALECT) for v in variants}
    return [
        {key: row.get(key) for key in ("question", "context", "answer")}
        | {key: row[key] for key in ("evidence", "db_id") if key in row}
        | {variant: answers[variant][i].sql if variant in answers else None for variant in ("base", "adapter")}
        | {"decoding": {variant: answers[variant][i].decoding for variant in answers}}
        for i, row in enumerate(rows)
    ]


def pick(rows: Rows, candidates: list[list[Candidate]], dialect: str) -> list[Candidate]:
    """What answers each row: its only candidate, or the one that `choose_consistent` takes."""
    if all(len(written) == 1 for written in candidates):
        return [written[0] for written in candidates]
    return self_consistency.choose_consistent([row["context"] for row in rows], candidates, dialect)


def merge_pays_off(model, choice: str, rows: int) -> bool:
    """Whether `choice`, a value of MERGE_FOR_GENERATION, resolves to on.

    Unquantised weights decode faster, if both fit into memory.
    """
    if not backend.UNPACKS or choice == "off":
        return False
    if choice == "on":
        return True
    free = free_memory(model.device.type)
    plain = model.num_parameters() * model.get_input_embeddings().weight.dtype.itemsize
    return model.device.type != "cpu" and rows >= MERGED_FROM and free is not None and plain < free / 2


def check_processes() -> None:
    """Raises UserError for a launcher that asks for FSDP: each process writes its rows at its own speed."""
    if distributed.rank_info().sharded:
        raise UserError(
            "accelerate's configuration asks for FSDP, and generate.py keeps the whole base on every device; launch "
            "it without (docs/scale/one_host.yaml), or without a launcher"
        )


class SqlWriter:
    """Writes SQL with a model whose adapter is on or off; its cache and graphs are reused by later calls.

    SqlWriter(model, tokenizer, settings).write([{"question": "How many?", "context": "CREATE TABLE t (a INTEGER)"}])
    """

    def __init__(self, model, tokenizer, settings: Settings, prints_notes: bool = True):
        self.model = model
        self.tokenizer = tokenizer
        self.settings = settings
        self.prints_notes = prints_notes  # about a slower way of writing answers

    def write(self, rows: Rows) -> list[str]:
        """The model's SQL for each row's question and context, in the order of `rows`; see `candidates`."""
        return [picked.sql for picked in pick(rows, self.candidates(rows), self.settings.SQL_DIALECT)]

    def candidates(
        self, rows: Rows, answered: Answered = lambda index, candidates: None, numbers: Sequence[int] | None = None
    ) -> list[list[Candidate]]:
        """NUM_CANDIDATES queries per row, likeliest first: the best beams, or the greedy one and samples by SEED.

        Raises UserError for a prompt that leaves no tokens for an answer, with the row's number in `numbers`, if given.
        """
        prompts = encoding.encode_prompts(self.tokenizer, rows, self.settings.prompt_layout)
        longest = self._check_lengths(prompts, range(len(rows)) if numbers is None else numbers)
        candidates: list[list[Candidate]] = [[] for _ in rows]

        limits, cut = self._constraints(rows), 0

        def ended(index: int, written: list[Written]) -> None:
            nonlocal cut
            limit = limits[index] if limits else None
            candidates[index] = [
                Candidate(self._sql(ids, limit), weight, score, limit.passed_over(ids) if limit else ())
                for ids, weight, score in written
            ]
            if limit:
                cut += limit.is_cut(written[0].ids)
                limit.forget()
            answered(index, candidates[index])

        self._writer(longest).write(prompts, ended, limits)
        if limits:
            self._tell(limits, sum(any(one.passed_over for one in written) for written in candidates), cut)
        return candidates

    def _constraints(self, rows: Rows) -> list[Constraint] | None:
        """What the answers to each row may be, as CONSTRAIN says."""
        if self.settings.CONSTRAIN == "off" or not rows:
            return None
        ends = architecture.end_tokens(self.model, self.tokenizer, self.settings.prompt_layout)
        most, kind, dialect = self.settings.MAX_NEW_TOKENS, self.settings.CONSTRAIN, self.settings.SQL_DIALECT
        return constraints(rows, self.tokenizer, ends, most, kind, dialect)

    def _tell(self, limits: list[Constraint], changed: int, cut: int) -> None:
        """Notes what CONSTRAIN did, and could not do: rows that it `changed`, and first answers that it `cut`."""
        rows, told = len(limits), []
        if changed:
            told.append(f"in {changed:,} of {rows:,} rows words were passed over that may not stand there")
        if cut:
            told.append(
                f"{cut:,} of {rows:,} have no whole query within MAX_NEW_TOKENS ({self.settings.MAX_NEW_TOKENS})"
            )
        if free := sum(limit.guard is None for limit in limits):
            told.append(f"{free:,} of {rows:,} are free, since their schema or SQL_DIALECT is not read")
        if told:
            note("; ".join(told))

    def _writer(self, longest: int) -> BatchWriter | PlainWriter:
        """The writer for answers of at most `longest` tokens, prompt included."""
        unfit = architecture.why_inexact(self.model.config, longest)
        if backend.TAKES_ATTENTION and not unfit:
            return self.batches
        if self.prints_notes and backend.TAKES_ATTENTION:
            note(f"answers are written by transformers' generate in small batches, which is slower: {unfit}")
            self.prints_notes = False
        return PlainWriter(
            self.model, self.settings, self.tokenizer, alone=architecture.goes_alone(self.model.config, longest)
        )

    @functools.cached_property
    def batches(self) -> BatchWriter:
        layout = self.settings.prompt_layout
        agreement.check_answering(self.model, encoding.trial_text(self.tokenizer, layout))
        return BatchWriter(self.model, self.settings, architecture.end_tokens(self.model, self.tokenizer, layout))

    def free_memory(self) -> None:
        """Gives back the memory of the cache and the graphs; the next call takes it again."""
        if "batches" in vars(self):
            self.batches.decoder = None

    def _sql(self, ids: list[int], limit: Constraint | None) -> str:
        text = encoding.decode_answer(self.tokenizer, ids)
        # A whole query is nothing but SQL, whatever its texts look like.
        is_whole = limit is not None and limit.may_end(ids)
        return text.strip().removesuffix(";").rstrip() if is_whole else template.extract_sql(text)

    def _check_lengths(self, prompts: list[list[int]], numbers: Sequence[int]) -> int:
        """The tokens of the longest prompt and its answer."""
        new, window = self.settings.MAX_NEW_TOKENS, architecture.longest_row(self.model.config)
        for number, ids in zip(numbers, prompts, strict=True):
            if len(ids) + new > window:
                raise UserError(
                    f"row {number + 1}: its prompt has {len(ids)} tokens, and with MAX_NEW_TOKENS (--max-new-tokens) "
                    f"{new} it does not fit the model's window of {window}; shorten the context"
                )
        return max(map(len, prompts), default=0) + new
