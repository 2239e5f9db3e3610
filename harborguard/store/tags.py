"""Record which digest a tag referred to, and when."""

from collections.abc import Sequence
from datetime import datetime

from harborguard.model import ObservedTag
from harborguard.store.connection import Connection
from harborguard.store.statements import STATEMENTS
from harborguard.timestamps import CLOCK_TOLERANCE


def observe_tags(
    conn: Connection,
    organization_id: str,
    image_id: str,
    tags: Sequence[ObservedTag],
    *,
    observed_at: datetime,
    is_confirmed: bool = True,
    is_synced: bool = False,
) -> None:
    """Record that an image's tags had these digests at `observed_at`.

    The stored time range of a digest can only grow, so observations may arrive in any order. A
    build time after the observation is not stored: it would make its tag the latest for years.
    `is_confirmed` is False for the tags of an unfinished scan (contract 6). `is_synced` is True for
    the tags that a registry sync observed: the deletion of a scan keeps them (contract 8.11).
    """
    parameters = {
        "organization_id": organization_id,
        "image_id": image_id,
        "names": [tag.name for tag in tags],
        "digests": [tag.digest for tag in tags],
        "built_at": [_plausible_build_time(tag, observed_at) for tag in tags],
        "observed_at": observed_at,
        "is_confirmed": is_confirmed,
        "is_synced": is_synced,
    }
    conn.execute(STATEMENTS["observe_tags"], parameters)


def _plausible_build_time(tag: ObservedTag, observed_at: datetime) -> datetime | None:
    """Return a tag's build time; None if it is unknown or after the observation."""
    if tag.built_at is None or tag.built_at > observed_at + CLOCK_TOLERANCE:
        return None
    return tag.built_at
