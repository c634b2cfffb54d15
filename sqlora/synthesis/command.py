"""`python -m sqlora.data from-database`: training rows about a user's own database, made on this machine."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import sqlalchemy
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

import config
from sqlora.data import dataset
from sqlora.databases.database_url import parse_url, sqlite_path
from sqlora.databases.live import LiveDatabase, open_database
from sqlora.sql.parsing import SqlError, read_sql
from sqlora.sql.schema import STYLES
from sqlora.storage import outputs
from sqlora.storage.paths import option
from sqlora.synthesis.from_database import SECONDS, Pair, Synthesis
from sqlora.synthesis.query_tree import Link, Place
from sqlora.synthesis.rows import RowMaker
from sqlora.synthesis.shapes import SPIDER, held_out_shapes, learned_shares
from sqlora.system.console import console, note, plain, print_facts, progress_bar, quiet_libraries
from sqlora.system.errors import UserError, few

HELD_OUT = 0.1  # of the queries, by their shapes, go to --held-out
JSONL = ".jsonl"


def _words(context: object, parameter: object, value: str) -> list[str]:
    return [word for word in map(str.strip, value.split(",")) if word]


@click.command("python -m sqlora.data from-database")
@click.argument("database", metavar="DATABASE")
@click.option("--rows", default=5000, type=click.IntRange(1), help="of --output  [5000]")
@click.option("--output", metavar="OUT.jsonl", callback=option, help="write the rows there")
@click.option(
    "--held-out", metavar="OUT.jsonl", callback=option, help="write rows there of shapes that --output then has not"
)
@click.option("--preview", default=0, type=click.IntRange(0), help="show so many pairs; without --output only these")
@click.option(
    "--shapes-of", metavar="FILE", callback=option, help="rows whose SQL shows how often which shape is asked for"
)
@click.option(
    "--check-with-model",
    "adapter",
    metavar="FOLDER",
    callback=option,
    help="keep what this adapter of finetune.py answers with the same rows",
)
@click.option("--name", default="", help="the database's name in the rows, their db_id  [its own]")
@click.option(
    "--schema-style",
    type=click.Choice(("auto", *STYLES)),
    default=config.SCHEMA_STYLE,
    metavar="STYLE",
    help="how rows show the schema; auto is described, and full shows values too",
)
@click.option("--schemas", default=",".join(config.SCHEMAS), callback=_words, help="as SCHEMAS of config.py")
@click.option("--schema-hide", default=",".join(config.SCHEMA_HIDE), callback=_words, help="as SCHEMA_HIDE")
@click.option("--seed", default=config.SEED, type=int, help="the same seed makes the same rows")
def from_database(
    database: str,
    rows: int,
    output: Path | None,
    held_out: Path | None,
    preview: int,
    shapes_of: Path | None,
    adapter: Path | None,
    name: str,
    schema_style: str,
    schemas: list[str],
    schema_hide: list[str],
    seed: int,
) -> None:
    """Makes training rows about a database: queries over its tables, keys and values, each of which was run, and
    questions in English that they answer.

    DATABASE is an SQLite file, or a URL such as postgresql://reader@host/name. It is only read, and nothing leaves this
    machine.
    """
    _check_files(database, output, held_out, shapes_of, preview)
    shares = _shares(shapes_of) if shapes_of else SPIDER
    with open_database(database, SECONDS, schemas, schema_hide) as live:
        _print_database(live)
        synthesis = Synthesis(live, shares, seed)
        unread = synthesis.sampled.unread
        if unread:
            note(f"{few(unread)} could not be read, or not in time, and no query reads them")
        drawn = _draw(synthesis, rows if output else preview, seed if held_out else None)
        if adapter:
            _keep_answered(drawn, synthesis, live, adapter)
    for pair in drawn.train[:preview]:
        console.print(plain(pair.questions[0], "bold"), soft_wrap=True)
        console.print(plain(f"  {pair.sql}", "cyan"), soft_wrap=True)
    if output:
        style = "described" if schema_style == "auto" else schema_style
        maker = RowMaker(synthesis.sampled, style, name or _name(parse_url(database)))
        facts = _write(drawn, maker, rows, output, held_out)
        facts["values"] = "of the database are in questions and SQL" + (", and in schemas" if style == "full" else "")
        facts |= _coverage(synthesis, drawn, shares)
        facts["train"] = f"python finetune.py --data-path {output} --schema-style {style}"
        print_facts(facts)


@dataclass
class _Drawn:
    """Pairs to train on, and pairs of the shapes that are held out."""

    train: list[Pair]
    held: list[Pair]


def _draw(synthesis: Synthesis, rows: int, held_out_seed: int | None) -> _Drawn:
    """So many pairs to train on, and with a seed further ones of other shapes. Raises UserError if there is none."""
    wanted = rows if held_out_seed is None else math.ceil(rows / (1 - HELD_OUT))
    with progress_bar("pairs") as bar:
        drawing = itertools.islice(synthesis, wanted)
        pairs = list(bar.track(drawing, total=wanted, description="drawing queries"))
    held: set[str] = set()
    if held_out_seed is not None:
        counted = Counter(pair.shape for pair in pairs)
        held = held_out_shapes(counted, HELD_OUT, random.Random(held_out_seed))
    drawn = _Drawn([pair for pair in pairs if pair.shape not in held], [pair for pair in pairs if pair.shape in held])
    if not drawn.train:
        raise UserError(
            "DATABASE (--database): of its rows no query could be made that says something; name a database with "
            "more rows"
        )
    del drawn.train[rows:]
    return drawn


def _keep_answered(drawn: _Drawn, synthesis: Synthesis, live: LiveDatabase, folder: Path) -> None:
    """Leaves the pairs that an adapter answers as their SQL does, and counts the others. Raises UserError if none is
    left.
    """
    quiet_libraries()
    from sqlora.synthesis import round_trip  # imports torch

    asker = round_trip.open_asker(live, folder)
    kept = round_trip.answered(drawn.train, synthesis, asker)
    if not kept:
        raise UserError(
            f"--check-with-model ({folder}): the model answered none of {len(drawn.train):,} questions as their SQL "
            f"does; train it longer, on more rows, or leave the check out"
        )
    synthesis.dropped["answered otherwise by the model"] = len(drawn.train) - len(kept)
    drawn.train = kept


def _write(drawn: _Drawn, maker: RowMaker, rows: int, output: Path, held_out: Path | None) -> dict[str, str]:
    """Writes the rows, and says how many."""
    written = [maker.row(pair, question) for pair, question in _asked(drawn.train, rows)]
    dataset.write_rows(output, written)
    if len(written) < rows:
        note(f"no more than {len(written):,} different rows can be made of these tables")
    facts = {"written": f"{len(written):,} rows, {len(drawn.train):,} different queries: {output}"}
    if held_out:
        apart = [maker.row(pair, pair.questions[0]) for pair in drawn.held]
        dataset.write_rows(held_out, apart)
        shapes = len({pair.shape for pair in drawn.held})
        facts["held out"] = f"{len(apart):,} rows of {shapes:,} other shapes: {held_out}"
    return facts


def _asked(pairs: list[Pair], rows: int) -> list[tuple[Pair, str]]:
    """Each pair with a question, and where that makes too few rows again with others."""
    most = max(len(pair.questions) for pair in pairs)
    asked = [(pair, pair.questions[i]) for i in range(most) for pair in pairs if i < len(pair.questions)]
    return asked[:rows]


def _check_files(
    database: str, output: Path | None, held_out: Path | None, shapes_of: Path | None, preview: int
) -> None:
    """Raises UserError for files that may not be written, and if there is nothing to do."""
    if not output and (held_out or not preview):
        raise UserError("--output is missing; name a .jsonl file for the rows, or only look with --preview 20")
    reads: dict[str, Path | str] = {"--shapes-of": shapes_of} if shapes_of else {}
    if file := sqlite_path(database):
        reads["DATABASE"] = file
    writes = [(name, path) for name, path in (("--output", output), ("--held-out", held_out)) if path]
    for name, path in writes:
        if path.suffix != JSONL:
            raise UserError(f"{name} is {str(path)!r}; it must be a .jsonl file, such as mine.jsonl")
    outputs.check_outputs_are_ours(reads, *(outputs.File(name, path, outputs.TRAINING_ROWS) for name, path in writes))


def _shares(file: Path) -> dict[str, float]:
    """The shares of the shapes of a file's answers. Raises UserError if none can be read."""
    queries = []
    for row in dataset.load_rows(str(file), "--shapes-of"):
        try:
            parsed = read_sql(sqlglot.parse, row["answer"], "sqlite")[0]
        except (SqlglotError, SqlError):
            continue
        if isinstance(parsed, exp.Query):
            queries.append(parsed)
    if not queries:
        raise UserError(f"--shapes-of ({file}): no answer is a query in SQLite's SQL; name other rows")
    return learned_shares(queries)


def _name(url: sqlalchemy.URL) -> str:
    name = url.database or url.get_backend_name()
    return Path(name).stem if url.get_backend_name() == "sqlite" else name


def _print_database(live: LiveDatabase) -> None:
    """Raises UserError for a kind of database whose queries cannot be run."""
    reflected = live.reflected
    if not live.runs:
        raise UserError(
            f"DATABASE is of the kind {reflected.name}, which SQLoRA cannot open for reading only; queries must be run "
            f"to be kept: take SQLite, PostgreSQL, MySQL or MariaDB"
        )
    columns = sum(len(table.columns) for table in live.schema.tables)
    print_facts({"database": f"{reflected.shown_url}: {len(live.schema.tables):,} tables, {columns:,} columns"})
    for name, why in reflected.unreadable.items():
        note(f"{name} cannot be read and is left out: {why}")


def _coverage(synthesis: Synthesis, drawn: _Drawn, shares: Mapping[str, float]) -> dict[str, str]:
    """What the pairs use of the database, and why others were left out, in words."""
    tables = [table.name for table in synthesis.sampled.schema.tables]
    columns = [Place(t.name, c.name) for t in synthesis.sampled.schema.tables for c in t.columns]
    used = {part.table for part in synthesis.parts if isinstance(part, Place)}
    missing = [table for table in tables if table not in used]
    places = sum(place in synthesis.parts for place in columns)
    keys = sum(isinstance(part, Link) for part in synthesis.parts)
    shapes = Counter(pair.shape for pair in drawn.train + drawn.held)
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in synthesis.dropped.most_common())
    return {
        "tables": f"{len(tables) - len(missing):,} of {len(tables):,}" + (f"; not {few(missing)}" if missing else ""),
        "columns": f"{places:,} of {len(columns):,}",
        "keys": f"{keys:,} of {len(synthesis.graph.links):,}",
        "shapes": f"{len(shapes):,} of {len(shares):,}; most often "
        + ", ".join(f"{shape} {count:,}" for shape, count in shapes.most_common(5)),
        "dropped": f"{synthesis.dropped.total():,} queries: {dropped}" if dropped else "none",
    }
