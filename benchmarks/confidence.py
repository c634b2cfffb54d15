"""How well the log-probability of answers, and what CONSTRAIN forbade in them, put right ones before wrong ones.

    python benchmarks/confidence.py EVALUATION.json [--variant adapter]

EVALUATION.json is what generate.py --evaluate writes. Printed is the area under the risk-coverage curve (Geifman and
El-Yaniv 2017, arXiv:1705.08500): the mean, over all shares of the answers, of the share of wrong ones among the surest.
Less is better; at random it is the share of wrong answers.
"""

import argparse
import json
from pathlib import Path

SCORES = {
    "log-probability": lambda decoding: decoding["log_probability"],
    "what was not forbidden": lambda decoding: -decoding["forbidden_probability"],
    "both": lambda decoding: decoding["log_probability"] - decoding["forbidden_probability"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evaluation", type=Path)
    parser.add_argument("--variant", choices=("base", "adapter"), default="adapter")
    arguments = parser.parse_args()
    rows = json.loads(arguments.evaluation.read_text(encoding="utf-8"))["rows"]
    scored = [
        (row["decoding"][arguments.variant], row["verdicts"][arguments.variant]["verdict"] != "match")
        for row in rows
        if row["verdicts"][arguments.variant]["verdict"] not in ("unscorable", "error")
    ]
    wrong = [is_wrong for _, is_wrong in scored]
    print("| ordered by | area under the risk-coverage curve |\n|---|---|")
    print(f"| chance | {sum(wrong) / len(wrong):.3f} |")
    for name, score in SCORES.items():
        # Of equal scores the wrong ones come last or first, and the mean of both counts.
        ends = [area(sorted(scored, key=lambda one: (-score(one[0]), end * one[1]))) for end in (1, -1)]
        print(f"| {name} | {sum(ends) / 2:.3f} |")
    print(f"| the best possible | {area(sorted(scored, key=lambda one: one[1])):.3f} |")


def area(ordered: list[tuple[dict, bool]]) -> float:
    faults, risks = 0, []
    for count, (_, is_wrong) in enumerate(ordered, start=1):
        faults += is_wrong
        risks.append(faults / count)
    return sum(risks) / len(risks)


if __name__ == "__main__":
    main()
