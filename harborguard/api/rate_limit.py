"""How often a credential may do what costs much: a budget for each, kept in this process."""

import math
import time
from functools import cached_property

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from harborguard.errors import RateLimited


class Budget:
    """So many in any minute for each key; every worker counts for itself."""

    def __init__(self, per_minute: int) -> None:
        self._limit = RateLimitItemPerMinute(per_minute)

    def spend(self, key: str) -> None:
        """Counts one; raises RateLimited, with the time to wait, where none is left."""
        if not self._limiter.hit(self._limit, key):
            window = self._limiter.get_window_stats(self._limit, key)
            wait = max(1, math.ceil(window.reset_time - time.time()))
            message = f"At most {self._limit.amount} a minute are allowed."
            raise RateLimited(message, retry_after=wait)

    @cached_property
    def _limiter(self) -> MovingWindowRateLimiter:
        # Made at first use: the storage has a thread, which would not come through a fork.
        return MovingWindowRateLimiter(MemoryStorage())
