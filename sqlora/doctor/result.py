"""The result of a check."""

from __future__ import annotations

from dataclasses import dataclass

from sqlora.system.errors import UserError

OK, SLOW, WRONG = "ok", "slow", "WRONG"


@dataclass(frozen=True)
class CheckResult:
    """What a check found: `status` is ok, slow (it works, at a cost) or WRONG; the remedy is empty where all is
    well.
    """

    name: str
    status: str
    detail: str
    remedy: str = ""


def failed_check(name: str, error: UserError) -> CheckResult:
    """A UserError as a CheckResult."""
    detail, _, remedy = str(error).rpartition("; ")
    return CheckResult(name, WRONG, detail, remedy)
