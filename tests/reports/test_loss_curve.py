"""The loss curve of a run."""

import json

import pytest
from PIL import Image

from sqlora.reports import loss_curve

METRICS = [
    {"step": 5, "loss": 2.0, "learning_rate": 1e-4},
    {"step": 10, "loss": 1.0, "eval_loss": 1.2, "learning_rate": 2e-4},
    {"step": 15},
    {"step": 15, "loss": None, "eval_loss": float("nan")},
    {"step": 20, "eval_loss": 0.9},
]


@pytest.fixture
def curve(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in METRICS) + '{"step": 30, "lo')
    loss_curve.plot_loss_curve(tmp_path / "metrics.jsonl", tmp_path / "loss.png", "Tiny, $5 and $6")
    return tmp_path / "loss.png"


def test_the_curve_is_a_picture(curve):
    with Image.open(curve) as picture:
        assert picture.size == (1600, 1000)
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20)}
    for hexadecimal in (loss_curve.BLUE, loss_curve.ORANGE, loss_curve.GREY):
        assert tuple(bytes.fromhex(hexadecimal[1:])) in colours
    assert {path.name for path in curve.parent.iterdir()} == {"loss.png", "metrics.jsonl"}


def test_only_whole_lines_and_finite_figures_count(curve):
    entries = loss_curve._read_metrics(curve.with_name("metrics.jsonl"))
    assert len(entries) == len(METRICS)
    assert loss_curve._series(entries, "loss") == ([5, 10], [2.0, 1.0])
    assert loss_curve._series(entries, "eval_loss") == ([10, 20], [1.2, 0.9])


def test_the_share_of_right_answers_has_a_panel(tmp_path):
    shares = [{"step": step, "eval_loss": 0.5, "eval_execution_match": share} for step, share in ((10, 0.2), (20, 0.6))]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in [*METRICS, *shares]))
    loss_curve.plot_loss_curve(tmp_path / "metrics.jsonl", tmp_path / "loss.png", "Tiny")
    with Image.open(tmp_path / "loss.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20)}
    assert tuple(bytes.fromhex(loss_curve.GREEN[1:])) in colours


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]\nnull\n",
        '{"step": 1, "loss": 3.0, "learning_rate": 0.1}\n',
        '{"step": 0, "eval_loss": 0.0}\n',
        '{"step": 0, "eval_execution_match": 0.0}\n',
        '{"step": 5, "é',
    ],
)
def test_a_curve_of_next_to_nothing(tmp_path, text):
    (tmp_path / "metrics.jsonl").write_bytes(text.encode()[:-1])
    loss_curve.plot_loss_curve(tmp_path / "metrics.jsonl", tmp_path / "loss.png", "Tiny")
    with Image.open(tmp_path / "loss.png") as picture:
        picture.verify()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(curve, monkeypatch):
    old = curve.read_bytes()
    monkeypatch.setattr(
        "matplotlib.figure.Figure.savefig", lambda *_, **__: (curve.parent / "missing" / "x").read_bytes()
    )
    with pytest.raises(FileNotFoundError):
        loss_curve.plot_loss_curve(curve.with_name("metrics.jsonl"), curve, "Tiny")
    assert curve.read_bytes() == old
    assert len(list(curve.parent.iterdir())) == 2
