"""Data larger than memory: rows a second and the memory of a stream, over synthetic rows that are written first.

    python benchmarks/streaming.py [--rows 10000000] [--checked 200000] [--folder FOLDER]

Parquet files of 100,000 rows, one row group each, go into a folder of their own under FOLDER and are deleted at the
end. Three readings, with finetune.py's own code: all rows read, shuffled and compared with the validation rows; the
first --checked of them with CHECK_DATA and tokenised too, as a run has them; and the same number passed over, as
--resume does. Prints a line for each tenth: rows/s by the clock, rows/s of this process's own CPU time, and resident
memory.
"""

import argparse
import itertools
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")
SHARD = 100_000
THINGS = ["singer", "concert", "stadium", "song", "album", "ticket", "visitor", "band", "label", "tour"]
COLUMNS = [
    "name VARCHAR",
    "city VARCHAR",
    "year INTEGER",
    "price INTEGER",
    "age INTEGER",
    "country VARCHAR",
    "rank INTEGER",
    "owner VARCHAR",
]
TABLES = 2000


def make_row(number: int) -> tuple[str, str, str]:
    """A question, its context and its answer, unlike every other row's."""
    kind = number * 7919 % TABLES
    table, columns = f"{THINGS[kind % 10]}_{kind // 10}", COLUMNS[kind % 5 : kind % 5 + 4]
    one, other = columns[number % 4].split()[0], columns[(number + 1) % 4].split()[0]
    context = f"CREATE TABLE {table} ({', '.join(columns)})"
    if number % 2:
        answer = f"SELECT COUNT(*) FROM {table} WHERE {one} = 'n{number}'"
        return f"How many rows of {table} have the {one} n{number}?", context, answer
    answer = f"SELECT {other} FROM {table} WHERE {one} > {number}"
    return f"Which {other} has a {table} whose {one} is above {number}?", context, answer


def write(folder: Path, count: int) -> int:
    """Writes the rows, and returns the bytes that they take."""
    import pyarrow
    import pyarrow.parquet

    for start in range(0, count, SHARD):
        columns = zip(*map(make_row, range(start, min(count, start + SHARD))), strict=True)
        table = pyarrow.table(dict(zip(("question", "context", "answer"), columns, strict=True)))
        pyarrow.parquet.write_table(table, folder / f"train-{start // SHARD:05}.parquet")
    return sum(file.stat().st_size for file in folder.iterdir())


def measure(name: str, counts: Iterable[int], total: int) -> None:
    """Goes through `counts`, the rows that were read in each go."""
    import psutil

    process, before = psutil.Process(), 0
    wall, cpu, done, mark = time.perf_counter(), time.process_time(), 0, total // 10
    for count in counts:
        done += count
        if done >= mark or done == total:
            spent = time.perf_counter() - wall, time.process_time() - cpu
            print(
                f"{name}: {done:>10,} rows, {(done - before) / spent[0]:>8,.0f} rows/s, "
                f"{(done - before) / spent[1]:>8,.0f} a CPU second, {process.memory_info().rss / 1e6:,.0f} MB",
                flush=True,
            )
            wall, cpu, before, mark = time.perf_counter(), time.process_time(), done, mark + total // 10


def main(arguments: argparse.Namespace, folder: Path) -> None:
    start = time.perf_counter()
    size = write(folder, arguments.rows)
    print(
        f"{arguments.rows:,} rows written in {time.perf_counter() - start:.0f} s, {size / 1e6:,.0f} MB of parquet files"
    )

    from sqlora.system import console

    console.quiet_libraries()
    from sqlora.data import split, streaming
    from sqlora.model import base_models, loading
    from sqlora.settings.command_line import load_settings

    def make_stream(*flags: str) -> streaming.Stream:
        settings = load_settings(["--preset", "tiny", "--streaming", "--data-path", str(folder), *flags], "")
        source = streaming.Source(settings.DATA_PATH, settings.SEED, settings.SHUFFLE_BUFFER)
        _, validation, apart = split.split_rows(source.first_rows(), settings.VALIDATION_ROWS, settings.SEED)
        tokenizer = loading.load_tokenizer(base_models.find_base_model(settings.BASE_MODEL))
        return streaming.Stream(source, validation, apart, tokenizer, settings)

    def read(stream: streaming.Stream, most: int) -> Iterator[int]:
        records = itertools.islice(stream.source.records(), most)
        while chunk := list(itertools.islice(records, streaming.ROWS_PER_READ)):
            stream.usable(chunk, 1)
            yield len(chunk)

    def train(stream: streaming.Stream, most: int) -> Iterator[int]:
        before = 0
        for _ in stream:
            read, before = stream.counts["read"] - before, stream.counts["read"]
            yield read
            if before >= most:
                return

    stream = make_stream("--check-data", "off")
    measure("read, shuffled and compared", read(stream, arguments.rows), arguments.rows)
    print(stream)
    stream = make_stream()
    measure("checked and tokenised too", train(stream, arguments.checked), arguments.checked)
    print(stream)
    measure("passed over", (1 for _ in itertools.islice(stream.source.records(), arguments.checked)), arguments.checked)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6:,.0f} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--checked", type=int, default=200_000, help="at most --rows")
    parser.add_argument("--folder", help="where the files are written; the system's temporary folder by default")
    with tempfile.TemporaryDirectory(dir=(given := parser.parse_args()).folder) as name:
        main(given, Path(name))
