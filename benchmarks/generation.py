"""Answers a second: SQLoRA's batches against other ways to generate the same.

    python benchmarks/generation.py --rows ROWS.jsonl --tokenizer TOKENIZER.model [--weights bf16] [--ways
    original,plain,sqlora]
    python benchmarks/generation.py --shape demo        two CPU cores, the demo's 200 test questions

A model of the shape with random weights (the demo's: its own) writes 40 tokens to each prompt, EOS not heeded. For each
way one JSON line is printed as it ends: answers/s after a warm-up, the seconds of the warm-up, the peak memory, and the
share of the floor that reading memory sets: the weights once a step, and each row's keys and values, at the rate of a
large copy.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
NEW_TOKENS = 40
LENGTH = {"max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS, "do_sample": False}


class Bench:
    """A loaded model, prompts, and the device's measured copy rate."""

    def __init__(self, folder: Path, rows: Path, weights: str, number: int):
        import torch

        from sqlora.data import dataset
        from sqlora.model import base_models, loading
        from sqlora.prompt import encoding
        from sqlora.settings.command_line import load_settings

        self.torch = torch
        self.settings = load_settings(["--low-bit", "none" if weights == "bf16" else "nf4"], "")
        self.device = loading.choose_device(self.settings)
        base = base_models.find_base_model(str(folder))
        self.tokenizer = loading.load_tokenizer(base)
        self.model = loading.load_base(base, self.settings.LOW_BIT, self.device, training=False).eval()
        read = dataset.load_rows(str(rows), "--rows")
        self.rows = [read[i % len(read)] for i in range(number)]
        self.prompts = encoding.encode_prompts(self.tokenizer, self.rows)
        self.weights = weights

    def wait(self) -> None:
        if self.device.type != "cpu":
            self.torch.accelerator.synchronize()

    def copy_rate(self) -> float:
        """Bytes/s, read and written."""
        size = 1 << 28 if self.device.type == "cpu" else 1 << 32
        source = self.torch.empty(size, dtype=self.torch.uint8, device=self.device.torch_device)
        target = self.torch.empty_like(source)
        best = float("inf")
        for _ in range(4):
            start = time.perf_counter()
            target.copy_(source)
            self.wait()
            best = min(best, time.perf_counter() - start)
        return 2 * size / best

    def floor(self, batch: int, number: int) -> float:
        """Seconds that reading the weights and the rows' keys and values takes at the copy rate."""
        from sqlora.generation.kv_cache import slot_bytes

        weights = sum(parameter.nbytes for parameter in self.model.parameters())
        passes = -(-number // batch) * NEW_TOKENS
        seen = sum(len(ids) + NEW_TOKENS / 2 for ids in self.prompts[:number]) * NEW_TOKENS
        token = slot_bytes(self.model.config, 1, self.model.device, self.device.dtype)
        return (weights * passes + seen * token) / self.copy_rate()

    def plain(self, batch: int, number: int, **how) -> None:
        """transformers' generate."""
        from sqlora.generation.transformers_generate import pad_left

        order = sorted(self.prompts[:number], key=len, reverse=True)
        with self.torch.inference_mode():
            for start in range(0, number, batch):
                inputs = {
                    key: tensor.to(self.model.device)
                    for key, tensor in pad_left(order[start : start + batch], 0).items()
                }
                self.model.generate(**inputs, **LENGTH, pad_token_id=0, eos_token_id=None, **how)

    def continuous(self, number: int) -> None:
        """transformers' continuous batching."""
        from transformers import GenerationConfig

        how = GenerationConfig(**LENGTH, eos_token_id=-1, pad_token_id=0)
        made = self.model.generate_batch(inputs=self.prompts[:number], generation_config=how, progress_bar=False)
        assert len(made) == number, f"{len(made)} of {number} answers"

    def sqlora(self, writer, number: int) -> None:
        written = {}
        writer.write(self.prompts[:number], written.__setitem__)
        assert all(len(written[i][0][0]) == NEW_TOKENS for i in range(number))

    def writer(self, *flags: str):
        from sqlora.generation.continuous_batching import BatchWriter
        from sqlora.settings.command_line import load_settings

        changed = load_settings(["--max-new-tokens", str(NEW_TOKENS), "--compile", "off", *flags], "")
        return BatchWriter(self.model, changed, eos=-1)

    def knowing(self, number: int, constrain: str, alone: bool = False):
        """A function that lets the model write the rows' expected SQL, as one does that has learned it: its logits are
        computed, and the next token of that SQL is made the likeliest. SQL that is not legal gives way to other rows'.
        """
        from sqlora.generation.constraint import constraints
        from sqlora.generation.token_search import Samples

        torch, eos = self.torch, self.tokenizer.eos_token_id
        tokens = self.tokenizer([row["answer"] for row in self.rows], add_special_tokens=False)["input_ids"]
        room = max(map(len, tokens)) + 100  # so that no row is made to end
        limits = constraints(self.rows, self.tokenizer, {eos}, room, "sql")
        legal = [i for i, limit in enumerate(limits) if limit.may_end(tokens[i])]
        chosen = (legal * (number // len(legal) + 1))[:number]
        prompts, rows = [self.prompts[i] for i in chosen], [self.rows[i] for i in chosen]
        expected = {tuple(self.prompts[i]): [*tokens[i], eos] for i in legal}

        class Knowing(Samples):
            def begin(self, prompt, constraint=None):
                row = super().begin(prompt, constraint)
                row.expected = expected[tuple(prompt)]
                return row

            def pick(self, logits, rows):
                every = torch.arange(len(rows), device=logits.device)
                due = torch.tensor([row.expected[row.length] for row in rows], device=logits.device)
                logits[every, 0, due] += 1e4
                return super().pick(logits, rows)

        writer = self.writer("--max-new-tokens", str(room))
        writer.strategy = Knowing(writer.settings, {eos})

        def run() -> None:
            limits = None if constrain == "off" else constraints(rows, self.tokenizer, {eos}, room, constrain)
            for part in [slice(i, i + 1) for i in range(number)] if alone else [slice(None)]:
                written = {}
                writer.write(prompts[part], written.__setitem__, limits and limits[part])
                assert all([*written[i][0].ids, eos] == expected[tuple(ids)] for i, ids in enumerate(prompts[part]))

        return run

    def time(self, way: str, number: int, batch: int, warm_up, run, repeats: int = 1) -> None:
        from sqlora.model.device import peak_memory

        if self.device.type != "cpu":
            self.torch.accelerator.reset_peak_memory_stats()
        start = time.perf_counter()
        warm_up()
        self.wait()
        first = time.perf_counter() - start
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            run()
            self.wait()
            seconds.append(time.perf_counter() - start)
        best = min(seconds)
        print(
            json.dumps(
                {
                    "way": way,
                    "weights": self.weights,
                    "answers": number,
                    "at a time": batch,
                    "answers/s": round(number / best, 2),
                    "first answers, s": round(first, 2),
                    "seconds": round(best, 2),
                    "peak GB": round(peak_memory(self.device.type) / 1e9, 2),
                    "share of the floor": round(self.floor(batch, number) / best, 3),
                }
            ),
            flush=True,
        )


def ways(bench: Bench, number: int, few: int, batch: int) -> dict:
    """Each way by name; calling one measures it and prints its line."""

    def plain(name: str, number: int, batch: int, **how) -> None:
        bench.time(
            name, number, batch, lambda: bench.plain(batch, batch, **how), lambda: bench.plain(batch, number, **how)
        )

    def sqlora(name: str, number: int, *flags: str) -> None:
        writer = bench.writer(*flags)
        bench.time(
            name,
            number,
            writer.most_slots // writer.strategy.width,
            lambda: bench.sqlora(writer, min(number, 64)),
            lambda: bench.sqlora(writer, number),
        )

    def one_by_one():
        writer = bench.writer()

        def run():
            for i in range(few):
                writer.write(bench.prompts[i : i + 1], lambda *_: None)

        bench.time("SQLoRA, one at a time", few, 1, lambda: writer.write(bench.prompts[:1], lambda *_: None), run)

    def knowing(constrain: str, number: int, alone: bool = False) -> None:
        name = "SQLoRA, the expected SQL" + ", one at a time" * alone + f", CONSTRAIN {constrain}"
        run = bench.knowing(number, constrain, alone)
        bench.time(name, number, 1 if alone else min(number, 512), run, run, repeats=2)

    original = ("--num-beams", "5", "--repetition-penalty", "1.2")
    return {
        "original": lambda: plain(
            "one at a time, 5 beams, repetition penalty 1.2", few, 1, num_beams=5, repetition_penalty=1.2
        ),
        "single": lambda: plain("generate, one at a time", few, 1),
        "plain": lambda: plain(f"generate, batches of {batch}", min(number, 2 * batch), batch),
        "continuous": lambda: bench.time(
            "continuous batching",
            min(number, 512),
            512,
            lambda: bench.continuous(8),
            lambda: bench.continuous(min(number, 512)),
        ),
        "alone": one_by_one,
        "sqlora": lambda: sqlora("SQLoRA", number),
        "beams": lambda: sqlora("SQLoRA, 5 beams, repetition penalty 1.2", min(number, 256), *original),
        "free": lambda: knowing("off", number),
        "sql": lambda: knowing("sql", number),
        "free alone": lambda: knowing("off", few, alone=True),
        "sql alone": lambda: knowing("sql", few, alone=True),
        "compiled": lambda: sqlora("SQLoRA, compiled", number, "--compile", "on"),  # last, since the layers stay so
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="codellama-7b", help="demo, or one of full_size.SHAPES")
    parser.add_argument("--rows", type=Path, default=Path("demo/test.jsonl"), help="rows whose prompts are continued")
    parser.add_argument("--tokenizer", type=Path, help="a Llama's tokenizer.model of 32,000 pieces")
    parser.add_argument("--model", type=Path, help="the folder of a model made before, or where it is to be made")
    parser.add_argument("--weights", choices=("nf4", "bf16"), default="nf4")
    parser.add_argument(
        "--ways",
        default="original,single,plain,continuous,alone,sqlora,beams,free,sql,free alone,sql alone,compiled",
    )
    parser.add_argument("--number", type=int, default=2048, help="answers of the ways that take batches")
    parser.add_argument("--few", type=int, default=6, help="answers of those that take one at a time")
    parser.add_argument("--batch", type=int, default=256, help="rows at a time for generate")
    parser.add_argument("--timeout", type=int, default=120, help="seconds for each way")
    arguments = parser.parse_args()

    from benchmarks import full_size
    from sqlora.system import console

    console.quiet_libraries()
    with tempfile.TemporaryDirectory() as name:
        folder = Path("demo/tiny-llama") if arguments.shape == "demo" else arguments.model or Path(name)
        if not (folder / "config.json").is_file():
            full_size.make_model(folder, arguments.shape, arguments.tokenizer)
        bench = Bench(folder, arguments.rows, arguments.weights, arguments.number)
        print(json.dumps({"machine": full_size.machine(), "copy GB/s": round(bench.copy_rate() / 1e9)}), flush=True)
        found = ways(bench, arguments.number, arguments.few, arguments.batch)
        for way in arguments.ways.split(","):
            signal.alarm(arguments.timeout)
            try:
                found[way]()
            except Exception as error:  # one that fails leaves the others to be measured
                print(
                    json.dumps(
                        {"way": way, "weights": arguments.weights, "failed": f"{type(error).__name__}: {error}"[:300]}
                    ),
                    flush=True,
                )
            signal.alarm(0)


def out_of_time(number: int, frame: object) -> None:
    raise TimeoutError("out of time")


if __name__ == "__main__":
    signal.signal(signal.SIGALRM, out_of_time)
    main()
