"""The loss curve of a run, as a PNG, with the share of right answers where they were asked for."""

from __future__ import annotations

import json
import math
from pathlib import Path

from sqlora.storage.atomic import replace_file

BLUE, ORANGE, GREEN, GREY = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#555555",
)  # Okabe and Ito: distinct for every kind of colour vision


def plot_loss_curve(metrics_path: Path, png_path: Path, title: str) -> None:
    """Draws the losses of a metrics.jsonl, the execution match if it has any, and the learning rate under them, into a
    PNG of 1600 x 1000 pixels. What chose the best checkpoint has its best value marked.

    A line that a killed run left half written is passed over, and so is a figure that is missing or not finite; of a
    step that was logged twice, as by a resumed run, the later counts. Raises FileNotFoundError if there are no metrics.
    """
    from matplotlib.figure import Figure  # not pyplot, which keeps every figure alive
    from matplotlib.ticker import MaxNLocator

    entries = _read_metrics(metrics_path)
    training, evaluation, rates = (_series(entries, key) for key in ("loss", "eval_loss", "learning_rate"))
    right = _series(entries, "eval_execution_match")
    figure = Figure(figsize=(6.4, 4), dpi=250, layout="constrained")
    upper, *middle, lower = (
        figure.subplots(3, sharex=True, height_ratios=(4, 2, 1))
        if right[0]
        else figure.subplots(2, sharex=True, height_ratios=(5, 1))
    )
    figure.suptitle(title, x=0.01, ha="left", fontsize="medium", fontweight="bold", parse_math=False)
    upper.plot(*training, color=BLUE, linewidth=1.6, marker="." if len(training[0]) < 3 else "", label="training loss")
    upper.plot(
        *evaluation,
        color=ORANGE,
        linewidth=1.1,
        marker="o",
        markersize=4,
        markerfacecolor="white",
        label="evaluation loss",
    )
    last = max(training[0] + evaluation[0] + rates[0], default=0) or 1
    highest = max(training[1] + evaluation[1], default=0) or 1
    upper.set(ylabel="loss", xlim=(0, 1.02 * last), ylim=(0, 1.06 * highest))
    upper.legend(loc="lower right", bbox_to_anchor=(1, 0.99), ncols=2, frameon=False, fontsize="small", borderpad=0)
    for axes in middle:
        shares = [100 * share for share in right[1]]
        axes.plot(right[0], shares, color=GREEN, linewidth=1.1, marker="o", markersize=4, markerfacecolor="white")
        axes.set(ylabel="right, %", ylim=(0, 1.12 * max(shares) or 1))
        best = max(range(len(shares)), key=lambda place: (shares[place], place))  # of equal ones the last
        _annotate(axes, right[0][best], shares[best], f"best {shares[best]:.1f} %, step {right[0][best]}", GREEN)
    if evaluation[0] and not middle:
        steps, losses = evaluation
        best = min(range(len(losses)), key=losses.__getitem__)
        _annotate(upper, steps[best], losses[best], f"best {losses[best]:.4f}, step {steps[best]}", ORANGE)
    lower.plot(*rates, color=GREY, linewidth=1.2, marker="." if len(rates[0]) < 3 else "")
    fastest = max(rates[1], default=0) or 1
    lower.set(xlabel="step", ylabel="learning\nrate", ylim=(0, 1.15 * fastest))
    lower.set_yticks([0, fastest], ["0", f"{fastest:.2g}"])
    lower.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    for axes in (upper, *middle, lower):
        axes.grid(color="#e3e6ea", linewidth=0.7)
        axes.tick_params(labelsize="small", color=GREY)
        axes.spines[["top", "right"]].set_visible(False)
    figure.align_ylabels()
    replace_file(png_path, lambda partial: figure.savefig(partial, format="png"))


def _annotate(axes, step: int, value: float, text: str, color: str) -> None:
    point = step, value
    axes.plot(*point, color=color, marker="o", markersize=6)
    # The text goes where there is space.
    left, low = (2 * at < end for at, (_, end) in zip(point, (axes.get_xlim(), axes.get_ylim()), strict=True))
    axes.annotate(
        text,
        point,
        xytext=(6 if left else 0, 24 if low else -32),
        textcoords="offset points",
        ha="left" if left else "right",
        fontsize="small",
        bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
        arrowprops={"arrowstyle": "-", "color": GREY, "shrinkB": 4},
    )


def _read_metrics(path: Path) -> list[dict]:
    entries = []
    for line in path.read_bytes().splitlines():  # bytes: a cut may fall inside a character
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries


def _series(entries: list[dict], key: str) -> tuple[list[int], list[float]]:
    def number(value: object) -> bool:
        return isinstance(value, int | float) and math.isfinite(value)

    known = {entry["step"]: entry[key] for entry in entries if number(entry.get("step")) and number(entry.get(key))}
    steps = sorted(known)
    return steps, [known[step] for step in steps]
