"""A rate limit per key or address, counted separately in each worker process."""

import math
import time
from functools import cached_property

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from harborguard.errors import RateLimited


class RateLimit:
    """A maximum number of events per key in any 60 seconds. `events` names them in the error."""

    def __init__(self, per_minute: int, events: str) -> None:
        self._limit = RateLimitItemPerMinute(per_minute)
        self._events = events

    def consume(self, key: str) -> None:
        """Count an event; raise RateLimited, with the seconds to wait, if the limit is reached."""
        if not self._limiter.hit(self._limit, key):
            window = self._limiter.get_window_stats(self._limit, key)
            wait = max(1, math.ceil(window.reset_time - time.time()))
            message = f"At most {self._limit.amount} {self._events} per minute are allowed."
            raise RateLimited(message, retry_after=wait)

    @cached_property
    def _limiter(self) -> MovingWindowRateLimiter:
        # Created at first use: the storage starts a thread, which would not survive a fork.
        return MovingWindowRateLimiter(MemoryStorage())
