"""Rows in every form give the loss and the gradients of rows that go through the model one at a time, in float64."""

import functools
import itertools
import random

import families
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.attention import flex_attention
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from sqlora.data.tokenise import IGNORED_LABEL
from sqlora.model import architecture, device
from sqlora.training.packing import attention, packed_batches, packed_loss

VOCABULARY = 48
NO_LIMIT = 10**6
SHAPES = {
    "heads alike": {},
    "grouped-query heads": {"num_key_value_heads": 2},
    "heads of width 100": {"hidden_size": 200, "num_attention_heads": 2},
}
LAYOUTS = ["tree", "tree in blocks", "prefix", "off"]


def row(ids: list[int], answer: int) -> packed_batches.TokenisedExample:
    """A row whose last `answer` tokens are targets."""
    start = len(ids) - answer
    return {"input_ids": ids, "labels": [IGNORED_LABEL] * start + ids[start:]}


def random_rows(seed: int, count: int = 9, everything: bool = False) -> list[packed_batches.TokenisedExample]:
    """Rows that branch off one another anywhere, among them one twice, and one that is the start of another."""
    draw = random.Random(seed)
    rows: list[packed_batches.TokenisedExample] = []
    for _ in range(count):
        stem = draw.choice(rows)["input_ids"] if rows and draw.random() < 0.8 else [1]
        ids = stem[: draw.randint(1, len(stem))] + [draw.randrange(3, VOCABULARY) for _ in range(draw.randint(2, 25))]
        rows.append(row(ids, len(ids) if everything else draw.randint(1, len(ids) - 1)))
    longest = max((one["input_ids"] for one in rows), key=len)
    start = longest[: len(longest) // 2]
    rows += [rows[draw.randrange(count)], row(start, len(start) if everything else 2)]
    draw.shuffle(rows)
    return rows


def with_adapter(model):
    model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")).double()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.fixture(scope="module", params=SHAPES)
def model(request):
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4} | SHAPES[
        request.param
    ]
    return with_adapter(LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=VOCABULARY)).double())


@pytest.fixture(autouse=True)
def flex_on_the_cpu(monkeypatch):
    """torch refuses FlexAttention a backward pass on the CPU, though without its kernel it has one."""
    monkeypatch.setattr(flex_attention, "_validate_device", lambda *tensors: None)
    monkeypatch.setattr(attention, "_flex", flex_attention.flex_attention)


def gradients(model) -> dict[str, torch.Tensor]:
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()
    return found


def one_at_a_time(model, rows):
    model.get_base_model().set_attn_implementation("sdpa")
    total = 0.0
    for one in rows:
        logits = model(input_ids=torch.tensor([one["input_ids"]])).logits[0, :-1]
        wanted = torch.tensor(one["labels"][1:], dtype=torch.int64)
        loss = torch.nn.functional.cross_entropy(logits, wanted, ignore_index=IGNORED_LABEL, reduction="sum")
        loss.backward()
        total += loss.item()
    return total, gradients(model)


def packed(model, rows, form: str, limit: int = NO_LIMIT):
    implementation = {
        "tree": "sdpa",
        "tree in blocks": attention.TREE_ATTENTION,
        "prefix": attention.PREFIX_ATTENTION,
        "off": "sdpa",
    }
    model.get_base_model().set_attn_implementation(implementation[form])
    made = packed_batches.make_batches(rows, form.split()[0], limit)
    total = 0.0
    with pytest.MonkeyPatch.context() as patch:
        if "blocks" in form:
            patch.setattr(packed_batches, "tree_mask", packed_batches.tree_block_mask)
        for one in made:
            loss = packed_loss.loss_sum(model, one, model.get_base_model())
            loss.backward()
            total += loss.item()
    return total, gradients(model), made


def assert_same(expected, found):
    assert found[0] == pytest.approx(expected[0], rel=1e-6)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        assert (found[1][name] - gradient).norm() <= 1e-6 * gradient.norm(), name


@pytest.mark.parametrize("form", LAYOUTS)
@pytest.mark.parametrize("everything", [False, True], ids=["answers", "all tokens"])
@pytest.mark.parametrize("seed", [0, 1])
def test_random_trees(model, form, everything, seed):
    rows = random_rows(seed, everything=everything)
    expected = one_at_a_time(model, rows)
    assert_same(expected, packed(model, rows, form)[:2])
    *split, made = packed(model, rows, form, limit=50)
    assert len(made) > 2
    assert_same(expected, split)


@pytest.mark.parametrize("form", LAYOUTS)
@pytest.mark.parametrize(
    "rows",
    [
        [row([1, 5, 6, 7], 2)],
        [row([1, 5, 6, 7], 2)] * 3,
        [row([1, 5, 6, 7], 2), row([1, 5, 6, 7], 3), row([1, 5, 6, 7, 8, 9], 4)],
        [row([1, 5], 1), row([1, 6, 7], 2), row([1, 6, 8], 1)],
        [row([2, 3, 4], 1), row([5, 6, 7], 2)],
        [row([1, 4], 1), row([1, 2, 3], 2)],
    ],
    ids=["one row", "the same row", "other targets", "a branch below a branch", "nothing shared", "short rows"],
)
def test_special_trees(model, form, rows):
    assert_same(one_at_a_time(model, rows), packed(model, rows, form)[:2])


@pytest.mark.parametrize("form", LAYOUTS)
def test_gradient_checkpointing_changes_nothing(model, form):
    rows = random_rows(2)
    expected = one_at_a_time(model, rows)
    base = model.get_base_model()
    model.train()
    base.gradient_checkpointing_enable({"use_reentrant": False})
    try:
        assert base.is_gradient_checkpointing
        assert_same(expected, packed(model, rows, form)[:2])
    finally:
        base.gradient_checkpointing_disable()
        model.eval()


@pytest.mark.parametrize("form", LAYOUTS)
@pytest.mark.parametrize("kind", ["mistral", "qwen2", "openllama", "codellama"])
def test_models_of_real_layouts(request, kind, form):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(request.getfixturevalue(f"{kind}_folder"), dtype=torch.float64)
    model = with_adapter(model)
    rows = random_rows(3)
    assert_same(one_at_a_time(model, rows), packed(model, rows, form)[:2])


@functools.cache
def of_family(kind: str):
    """A tiny model in float64, and the loss and gradients of some rows, one at a time."""
    model = with_adapter(families.make_model(kind).double())
    rows = random_rows(3)
    return model, rows, one_at_a_time(model, rows)


@pytest.mark.parametrize("form", LAYOUTS)
@pytest.mark.parametrize("kind", families.KNOWN)
def test_every_known_family_packs_exactly(kind, form):
    model, rows, expected = of_family(kind)
    assert kind in architecture.KNOWN_MODELS
    assert architecture.why_inexact(model.config, 512) is None
    assert_same(expected, packed(model, rows, form)[:2])


def test_rows_go_alone_where_a_longer_one_would_change_their_rope():
    rope = {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "original_max_position_embeddings": 20,
        "short_factor": [1.0] * 4,
        "long_factor": [4.0, 8.0, 16.0, 32.0],
    }
    model = with_adapter(
        families.make_model("phi3", rope_parameters=rope, original_max_position_embeddings=20).double()
    )
    rows = random_rows(3)
    lengths = [len(one["input_ids"]) for one in rows]
    assert min(lengths) < 20 < max(lengths)
    expected = one_at_a_time(model, rows)
    assert architecture.goes_alone(model.config, max(lengths))
    assert not architecture.goes_alone(model.config, 20)
    model.get_base_model().set_attn_implementation("sdpa")
    total = sum(
        packed_loss.loss_sum(model, one, model.get_base_model())
        for one in packed_batches.make_batches(rows, "alone", NO_LIMIT)
    )
    total.backward()
    assert_same(expected, (total.item(), gradients(model)))
    padded = sum(
        packed_loss.loss_sum(model, one, model.get_base_model())
        for one in packed_batches.make_batches(rows, "off", NO_LIMIT)
    )
    assert abs(padded.item() / expected[0] - 1) > 1e-5


def test_every_family_that_is_taken_for_known_is_tested():
    assert sorted(families.KNOWN) == sorted(architecture.KNOWN_MODELS)


def brute_force(rows: list[packed_batches.TokenisedExample]) -> tuple[int, dict]:
    """How many different beginnings the rows have, and how often each target follows one."""
    beginnings = {tuple(one["input_ids"][:end]) for one in rows for end in range(1, len(one["input_ids"]) + 1)}
    targets: dict = {}
    for one in rows:
        for end in range(1, len(one["input_ids"])):
            if one["labels"][end] != IGNORED_LABEL:
                key = tuple(one["input_ids"][:end]), one["labels"][end]
                targets[key] = targets.get(key, 0) + 1
    return len(beginnings), targets


@pytest.mark.parametrize("seed", range(20))
def test_a_tree_has_every_beginning_once_and_sees_its_own_alone(seed):
    rows = random_rows(seed, everything=seed % 2 == 0)
    (part,) = packed_batches.make_batches(rows, "tree", NO_LIMIT)
    count, targets = brute_force(rows)
    length = part["input_ids"].shape[1]
    assert part["input_ids"].shape == part["position_ids"].shape == (1, length)
    assert 0 <= length - count < packed_batches.BLOCK == 128 * (length % 128 == 0)
    ids, ends = part["input_ids"][0].tolist(), part["ends"].tolist()
    assert ends[count:] == list(range(count + 1, length + 1))
    assert max(ends[:count]) <= count
    seen = [[k for k in range(q + 1) if q < ends[k]] for q in range(count)]
    assert [len(path) - 1 for path in seen] == part["position_ids"][0].tolist()[:count]
    beginnings = [tuple(ids[k] for k in path) for path in seen]
    assert len(set(beginnings)) == count
    places, wanted, weights = (part[key].tolist() for key in ("target_indices", "targets", "weights"))
    assert {(beginnings[p], t): w for p, t, w in zip(places, wanted, weights, strict=True)} == targets


def test_all_forms_count_the_same_targets_however_they_are_split():
    rows = random_rows(4, everything=True)
    count = sum(len(one["input_ids"]) - 1 for one in rows)
    for limit in (1, 30, 60, NO_LIMIT):
        for form in packed_batches.LAYOUTS:
            assert sum(int(one["weights"].sum()) for one in packed_batches.make_batches(rows, form, limit)) == count
    assert packed_batches.count_targets(rows) == count


def test_the_prefix_is_what_all_rows_share():
    rows = [row([1, 2, 3, 4, 5, 6], 2), row([1, 2, 3, 9], 1), row([1, 2, 3, 4, 7], 1)]
    (part,) = packed_batches.make_batches(rows, "prefix", NO_LIMIT)
    assert part["attention_mask"].shape == (1, 1, 8, 3 + 8)
    assert part["input_ids"].tolist() == [[1, 2, 3, 9, *[0] * 7, 4, 7, *[0] * 6, 4, 5, 6, *[0] * 5]]
    assert part["position_ids"].tolist() == [[0, 1, 2, *[*range(3, 11)] * 3]]


def test_passes_keep_to_the_limit():
    rows = random_rows(5, count=30)
    longest = max(len(one["input_ids"]) for one in rows)
    for form in packed_batches.LAYOUTS:
        step = packed_batches.BLOCK if form == "tree" else device.LENGTH_STEP * len(rows)
        for one in packed_batches.make_batches(rows, form, 100):
            assert one["input_ids"].numel() < max(100, longest) + step


def visible(part) -> torch.Tensor:
    """The mask by its definition, bool [N, N]."""
    places = torch.arange(len(part["ends"]))
    return (places <= places[:, None]) & (places[:, None] < part["ends"])


@pytest.mark.parametrize("seed", range(8))
def test_the_blocks_of_a_tree_are_those_that_torch_finds(seed):
    draw = random.Random(seed)
    stem = [draw.randrange(3, VOCABULARY) for _ in range(draw.choice([10, 128, 300]))]
    rows = [row(stem + one["input_ids"], 1) for one in random_rows(seed, count=25)]
    (part,) = packed_batches.make_batches(rows, "tree", NO_LIMIT)
    size = len(part["ends"])
    dense = visible(part)
    assert dense.any(dim=1).all()
    mask = packed_batches.tree_block_mask(part["ends"])
    at, keys = torch.arange(size), packed_batches.with_copies(torch.arange(size), 0)
    blocks, copied = at[:, None] // packed_batches.BLOCK, torch.arange(size, len(keys)) - size
    reads = blocks * packed_batches.COPIES // (blocks[-1] + 1) == copied // packed_batches.BLOCK
    dense = torch.cat([dense & (keys[:size] >= packed_batches.BLOCK), dense[:, keys[size:]] & reads], dim=1)
    expected = flex_attention.create_block_mask(lambda b, h, q, k: dense[q, k], None, None, *dense.shape, device="cpu")
    assert torch.equal(mask.mask_mod(None, None, at[:, None], torch.arange(len(keys))), dense)
    for kind in ("kv", "full_kv", "q", "full_q"):
        counts, wanted = getattr(mask, f"{kind}_num_blocks"), getattr(expected, f"{kind}_num_blocks")
        assert torch.equal(counts, wanted), kind
        for line in itertools.product(*map(range, counts.shape)):
            found, known = (getattr(one, f"{kind}_indices")[line][: counts[line]].tolist() for one in (mask, expected))
            assert sorted(found) == sorted(known)
    assert mask.shape == expected.shape
