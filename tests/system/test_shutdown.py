"""The end of a process on its own; test_distributed.py has those of several."""

import pytest

from sqlora.system import shutdown
from sqlora.system.errors import UserError


@pytest.mark.parametrize("error", [UserError("wrong"), ValueError("a bug"), KeyboardInterrupt()])
def test_one_process_ends_with_its_own_error(error):
    with pytest.raises(type(error)) as raised, shutdown.exit_together():
        raise error
    assert raised.value is error


def test_one_process_that_ends_well():
    with shutdown.exit_together():
        done = True
    assert done
