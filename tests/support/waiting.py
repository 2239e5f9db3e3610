"""Waiting for what another process or thread does."""

import time
from collections.abc import Callable


def wait_until(is_so: Callable[[], object], patience: float = 30) -> float:
    """Seconds until it is so; fails after `patience` seconds in which it was not.

    Generous, because only a failure waits that long: a busy machine is none.
    """
    started = time.monotonic()
    while not is_so():
        assert time.monotonic() - started < patience, "waited in vain"
        time.sleep(0.01)
    return time.monotonic() - started
