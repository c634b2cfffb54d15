"""The result of a check."""

from sqlora.doctor.result import WRONG, CheckResult, failed_check
from sqlora.system.errors import UserError


def test_the_last_part_of_an_error_is_its_remedy():
    error = UserError("DTYPE is float16; the device has none; set DTYPE (--dtype) to float32")
    assert failed_check("dtype", error) == CheckResult(
        "dtype", WRONG, "DTYPE is float16; the device has none", "set DTYPE (--dtype) to float32"
    )
