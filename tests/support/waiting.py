"""Wait for what another process or thread does."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], timeout: float = 30) -> float:
    """Return the seconds until a condition is true; fail after `timeout` seconds.

    The default is generous, so that a busy machine does not fail a test. Only a failure takes
    that long.
    """
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < timeout, "condition is still false"
        time.sleep(0.01)
    return time.monotonic() - started
