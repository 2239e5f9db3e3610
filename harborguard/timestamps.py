"""Parse RFC 3339 times as scanners and registries write them."""

import re
from datetime import UTC, datetime, timedelta

# How far the clock of another machine may be ahead.
CLOCK_TOLERANCE = timedelta(minutes=5)
_TIME = re.compile(
    r"(?P<minute>[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}):"
    r"(?P<second>[0-9]{2}(?:\.[0-9]{1,30})?)"
    r"(?P<zone>[Zz]|[+-][0-9]{2}:[0-9]{2})?"
)


def parse_time(text: str | None, *, is_zone_required: bool = False) -> datetime | None:
    """Parse an RFC 3339 time and return it in UTC.

    A time without a zone is UTC. Digits beyond microseconds are dropped, and a leap second becomes
    the microsecond before it. Return None if the text is missing or empty, or if its year is 1,
    which is how Go writes an unset time. Raise ValueError if the time is malformed, or if a
    required zone is missing.
    """
    if not text:
        return None
    match = _TIME.fullmatch(text)
    if match is None or (is_zone_required and not match["zone"]):
        raise ValueError("not an RFC 3339 time")
    if text.startswith("0001-"):
        return None
    try:
        second = "59.999999" if match["second"].startswith("60") else match["second"]
        moment = datetime.fromisoformat(f"{match['minute']}:{second}{match['zone'] or ''}".upper())
        return moment.astimezone(UTC) if match["zone"] else moment.replace(tzinfo=UTC)
    except OverflowError as error:
        raise ValueError("time out of range") from error
