"""Pre-trains the demo's base model, and its tokenizer, on SQL scripts about made-up databases.

    python demo/pretrain.py             demo/tiny-llama again, on a GPU and with a few processor cores to write the scripts
    python demo/pretrain.py --show 3    a few of the documents

The base learns tables, SQL and English from scripts that carry questions as comments. It never sees the prompt of this
project, nor a held-out domain. Most names are invented, so that it learns to copy a name from question and schema
instead of knowing it. The seeds make a run repeatable in kind; GPU arithmetic and the clock do not allow more.
"""

import argparse
import math
import os
import random
import threading
import time
from pathlib import Path

from questions import Asker
from schemas import domain_tables, human, invent_tables, plural, sample_schema

INVENTED = 0.8  # share of the schemas whose names are invented
VOCABULARY = 2048
ROW = 512  # tokens in a row of a batch
BATCH = 128  # rows
LEARNING_RATE = 2e-3
SPECIAL = ("<unk>", "<s>", "</s>", "<pad>")
MODEL = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 3,
}

# A name is spelled in the same pieces behind a space, an underscore, a quote or a bracket, so copying it is copying its
# pieces; a plural's s stands apart. What stands between names, keywords and small words with their spaces and marks, is
# one run, of which frequent ones become one piece (") VARCHAR, " or " of all the "): that keeps rows short.
SMALL = (
    "SELECT FROM WHERE GROUP ORDER BY HAVING LIMIT JOIN ON AS AND OR NOT IN IS NULL LIKE BETWEEN DISTINCT COUNT AVG SUM "
    "MIN MAX DESC INTERSECT EXCEPT CREATE TABLE VARCHAR INTEGER T1 T2 T3 What Which How List Show Give Find Return "
    "Display For Count a all and are as average between both but do each every exactly fewest for from greater "
    "greatest has have having highest is its largest least less lowest many maximum mean minimum more most no not of or "
    "over smallest than that the their there to under what whose with"
)
PIECES = (
    r"[0-9]|(?:(?<![A-Za-z0-9_])(?:" + "|".join(SMALL.split()) + r")(?![A-Za-z0-9_])|[^\sA-Za-z0-9_]| )+"
    r"|[A-Za-z]+?(?=s(?![A-Za-z]))|s(?![A-Za-z])|[A-Za-z]+|_|\s"
)


def document(rng) -> str:
    """A script: tables, and queries with the question that each one answers beside it, in one of several layouts."""
    tables = invent_tables(rng) if rng.random() < INVENTED else domain_tables(rng, "seen")
    schema = sample_schema(rng, tables)
    asker = Asker(rng, schema)
    ddl = ";\n".join(table.ddl() for table in schema) + ";"
    layout = rng.random()
    if layout < 0.35:
        mark = rng.choice(("-- {q}\n{a};", "/* {q} */\n{a};", "-- {q}\n{a};\n", "{a}; -- {q}"))
        pairs = [asker.ask() for _ in range(rng.randint(4, 9))]
        return ddl + "\n\n" + "\n".join(mark.format(q=q, a=a) for q, a in pairs)
    if layout < 0.65:  # the questions first, as a list
        pairs = [asker.ask() for _ in range(rng.choice((1, 1, 2, 3, 4, 5)))]
        if len(pairs) == 1:
            return f"-- {pairs[0][0]}\n{ddl}\n\n{pairs[0][1]};"
        listed = "\n".join(f"-- {i}. {q}" for i, (q, _) in enumerate(pairs, 1))
        return f"{listed}\n\n{ddl}\n\n" + "\n".join(f"{a}; -- {i}" for i, (_, a) in enumerate(pairs, 1))
    if layout < 0.85:  # one question a script, between two rules
        q, a = asker.ask()
        return f"/*\n{q}\n*/\n{'; '.join(table.ddl() for table in schema)};\n{a};"
    notes = [
        f"The table {t.name} holds the {', '.join(human(c.name) for c in t.columns)} of {plural(human(t.noun))}."
        for t in schema
    ]
    pairs = [asker.ask() for _ in range(rng.randint(2, 7))]
    body = "\n\n".join(f"Question: {q}\nSQL: {a}" for q, a in pairs)
    return " ".join(notes) + f"\n\n{ddl}\n\n{body}"


def build_tokenizer(seed: int, size: int):
    """A byte-level BPE; half of its texts are about invented things, so that names unseen are spelled in familiar pieces."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    rng, texts = random.Random(f"tokenizer {seed}"), []
    for _ in range(8000):
        schema = sample_schema(rng, invent_tables(rng) if rng.random() < 0.5 else domain_tables(rng, "seen"))
        texts.append(
            "; ".join(t.ddl() for t in schema)
            + ";\n"
            + "\n".join(";\n".join(Asker(rng, schema).ask()) for _ in range(3))
        )
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=list(SPECIAL),
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    return tokenizer


def save_tokenizer(tokenizer, folder: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=SPECIAL[0],
        bos_token=SPECIAL[1],
        eos_token=SPECIAL[2],
        pad_token=SPECIAL[3],
        model_max_length=MODEL["max_position_embeddings"],
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)


def write_rows(tokenizer, queue, seed: str, rows: int = 256) -> None:
    """Fills the queue with rows of whole documents, the last of each row cut; runs in a process of its own."""
    import numpy

    rng = random.Random(seed)
    while True:
        shard = numpy.zeros((rows, ROW), dtype=numpy.int16)
        for row in shard:
            ids = []
            while len(ids) < ROW:
                ids += [1, *tokenizer.encode(document(rng)).ids, 2]
            row[:] = ids[:ROW]
        queue.put(shard)


def probe(model, tokenizer, device, make_tables, count: int = 256) -> float:
    """Share of queries whose every token is the likeliest one, each the last of a script, over databases never seen."""
    import torch

    rng, rows, spans = random.Random("probe"), [], []
    for _ in range(count):
        schema = sample_schema(rng, make_tables(rng))
        (q1, a1), (q2, a2) = (Asker(rng, schema).ask() for _ in range(2))
        ddl = ";\n".join(t.ddl() for t in schema)
        prefix = [1, *tokenizer.encode(f"{ddl};\n\n-- {q1}\n{a1};\n-- {q2}\n").ids]
        rows.append(prefix + tokenizer.encode(f"{a2};\n").ids[:-1])
        spans.append((len(prefix), len(rows[-1])))
    length = max(map(len, rows))
    ids = torch.tensor([row + [3] * (length - len(row)) for row in rows], device=device)
    with torch.no_grad(), torch.autocast(device, dtype=torch.bfloat16), torch.compiler.set_stance("force_eager"):
        guesses = torch.cat(
            [model(input_ids=part, use_cache=False).logits.argmax(-1) for part in ids.split(32)]
        ).tolist()
    return sum(guess[i - 1 : j - 1] == row[i:j] for guess, row, (i, j) in zip(guesses, rows, spans)) / count


def start_writers(tokenizer, count: int, seed: int) -> list:
    """Starts the processes that write, and returns the list in which what they wrote arrives."""
    import multiprocessing

    context = multiprocessing.get_context("fork")  # call it before CUDA starts, which a forked process could not use
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    shards, arrived = context.Queue(maxsize=64), []
    for i in range(count):
        context.Process(target=write_rows, args=(tokenizer, shards, f"writer {seed} {i}"), daemon=True).start()

    def empty_queue():  # in a thread, so that no writer waits for a step to end
        while True:
            arrived.append(shards.get())

    threading.Thread(target=empty_queue, daemon=True).start()
    return arrived


def train(args, tokenizer):
    """Trains until the time or the steps are up, on rows drawn at random from those written so far."""
    arrived = start_writers(tokenizer, args.writers, args.seed)
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=tokenizer.get_vocab_size(), attn_implementation="sdpa", **MODEL)
    ).to(device)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f}M parameters on {device}", flush=True)
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        lr=args.learning_rate,
        betas=(0.9, 0.95),
        fused=device == "cuda",
    )

    def loss_of(rows):
        hidden = model.model(input_ids=rows[:, :-1], use_cache=False).last_hidden_state
        return head_loss(hidden, model.lm_head.weight, rows[:, 1:])

    def head_loss(hidden, weight, targets):
        logits = torch.nn.functional.linear(hidden, weight).float()
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    if args.compile:  # layer by layer: all layers share one compilation, and the causal flash kernel is kept
        for layer in model.model.layers:
            layer.compile()
        head_loss = torch.compile(head_loss)

    pool = torch.zeros((args.pool, ROW), dtype=torch.int16, device=device)
    filled = step = 0
    start = last = time.time()
    while True:
        if step % 16 == 0:  # not every step, since a copy waits for the GPU
            while arrived or filled < 8 * args.batch:
                if not arrived:
                    time.sleep(0.1)
                    continue
                shard = torch.from_numpy(arrived.pop())
                at = filled % (len(pool) - len(shard))  # a ring: once full, new rows take the place of the oldest
                pool[at : at + len(shard)] = shard.to(device)
                filled += len(shard)
        done = step / args.steps if args.steps else (time.time() - start) / (60 * args.minutes)
        if done >= 1:
            break
        rate = (
            args.learning_rate
            * min(1, (step + 1) / 300)
            * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * min(1, done))))
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        rows = pool[torch.randint(0, min(filled, len(pool)), (args.batch,), device=device)].long()
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = loss_of(rows)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if step == 3:  # the clock starts after compilation
            start = last = time.time()
        if step % args.log == 0:
            now = time.time()
            print(
                f"step {step}  loss {loss.item():.4f}  {now - start:.0f} s  {args.log * args.batch * ROW / (now - last) / 1e6:.2f}M "
                f"tokens/s  {filled * ROW / 1e6:.0f}M written",
                flush=True,
            )
            last = time.time()
        if step % args.probe == 0:
            report(model, tokenizer, device)
            last = time.time()
    print(f"{step} steps, {step * args.batch * ROW / 1e6:.0f}M tokens, {filled * ROW / 1e6:.0f}M written")
    report(model, tokenizer, device)
    return model


def report(model, tokenizer, device) -> None:
    """Prints how much the base can do in its own form, over invented, seen and held-out databases."""
    makers = {
        "invented": invent_tables,
        "seen": lambda r: domain_tables(r, "seen"),
        "dev": lambda r: domain_tables(r, "dev"),
    }
    scores = {name: probe(model, tokenizer, device, make) for name, make in makers.items()}
    print("queries right in a script:", "  ".join(f"{name} {score:.1%}" for name, score in scores.items()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).resolve().parent / "tiny-llama", help="folder of the model"
    )
    parser.add_argument(
        "--minutes", type=float, default=5.8, help="length of the training, without start and compilation"
    )
    parser.add_argument("--steps", type=int, default=0, help="end after that many steps instead")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--batch", type=int, default=BATCH, help=f"rows of {ROW} tokens a step")
    parser.add_argument("--learning-rate", type=float, default=LEARNING_RATE)
    parser.add_argument(
        "--writers", type=int, default=max(1, (os.cpu_count() or 2) - 1), help="processes that write scripts"
    )
    parser.add_argument("--pool", type=int, default=2_000_000, help="rows kept to draw from (1 KB each, on the GPU)")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--log", type=int, default=250)
    parser.add_argument("--probe", type=int, default=2000)
    parser.add_argument("--show", type=int, default=0, help="print that many documents, and do nothing else")
    args = parser.parse_args()
    if args.show:
        rng = random.Random(args.seed)
        print("\n\n-----\n\n".join(document(rng) for _ in range(args.show)))
        return
    tokenizer = build_tokenizer(args.seed, VOCABULARY)
    print(f"tokenizer of {tokenizer.get_vocab_size()} pieces", flush=True)
    model = train(args, tokenizer)
    import torch

    model.to(torch.bfloat16).save_pretrained(args.out)
    save_tokenizer(tokenizer, args.out)
    print(f"saved to {args.out}")


if __name__ == "__main__":
    main()
