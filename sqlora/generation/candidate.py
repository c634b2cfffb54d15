"""A query that a model wrote, how sure the model was of it, and what CONSTRAIN passed over as it was written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple


class PassedOver(NamedTuple):
    """Tokens that might not stand `at` a place, the characters before it, and were likelier than what stands there."""

    at: int
    text: str  # the likeliest of them; "" for an end
    probability: float  # of all of them


class Candidate(NamedTuple):
    """`log_probability` is the mean over the answer's tokens, its end among them, in nats."""

    sql: str
    weight: float = 1.0  # votes
    log_probability: float = 0.0
    passed_over: tuple[PassedOver, ...] = ()

    @classmethod
    def of(cls, written: Sequence[Any]) -> Candidate:
        """That which was written as JSON."""
        sql, weight, log_probability, passed_over = written
        return cls(sql, weight, log_probability, tuple(PassedOver(*one) for one in passed_over))

    @property
    def forbidden(self) -> float:
        """The share of probability that CONSTRAIN took away, from 0 to 1, as far as it was asked about tokens."""
        return 1 - math.prod(1 - min(one.probability, 1.0) for one in self.passed_over)

    @property
    def decoding(self) -> dict[str, Any]:
        """What OUTPUT says of how it was written."""
        return {
            "log_probability": round(self.log_probability, 4),
            "forbidden_probability": round(self.forbidden, 4),
            "passed_over": [one._asdict() | {"probability": round(one.probability, 4)} for one in self.passed_over],
        }
