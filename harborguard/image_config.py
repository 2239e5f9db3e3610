"""Read the build time from an image configuration (OCI image specification, config.md)."""

from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from harborguard.timestamps import parse_time

MAX_CONFIG_BYTES = 1 << 20
_EARLIEST_BUILD_TIME = datetime(2000, 1, 1, tzinfo=UTC)


class _ImageConfig(Struct):
    created: str | None = None


def parse_build_time(config: bytes | bytearray | memoryview | msgspec.Raw) -> datetime | None:
    """Return the build time in UTC from an image configuration in JSON.

    Return None if the configuration exceeds `MAX_CONFIG_BYTES` or is malformed, or if the time is
    before 2000, because reproducible builds write 1970 or 1980 (contract 6).
    """
    if memoryview(config).nbytes > MAX_CONFIG_BYTES:
        return None
    try:
        created = msgspec.json.decode(config, type=_ImageConfig).created
        built_at = parse_time(created)
    except (ValueError, RecursionError):
        return None
    return built_at if built_at and built_at >= _EARLIEST_BUILD_TIME else None
