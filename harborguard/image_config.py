"""Image configurations (OCI image specification, config.md): the build time."""

from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from harborguard.timestamps import parse_time

MAX_CONFIG_BYTES = 1 << 20
_OLDEST_BUILD = datetime(2000, 1, 1, tzinfo=UTC)


class _ImageConfig(Struct):
    created: str | None = None


def parse_build_time(config: bytes | bytearray | memoryview | msgspec.Raw) -> datetime | None:
    """Return when an image was built, from its configuration (JSON); None if unreadable.

    Times before 2000 count as missing: reproducible builds write 1970 or 1980 (contract 6).
    """
    if memoryview(config).nbytes > MAX_CONFIG_BYTES:
        return None
    try:
        created = msgspec.json.decode(config, type=_ImageConfig).created
        built_at = parse_time(created)
    except (ValueError, RecursionError):
        return None
    return built_at if built_at and built_at >= _OLDEST_BUILD else None
