"""Record which digest a tag referred to, and when."""

from collections.abc import Sequence
from datetime import datetime

from harborguard.model import ObservedTag
from harborguard.store.connection import Connection
from harborguard.store.statements import STATEMENTS


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

    The stored time range of a digest can only grow, so observations may arrive in any order.
    `is_confirmed` is False for the tags of an unfinished scan (contract 6). `is_synced` is True for
    the tags that a registry sync observed: the deletion of a scan keeps them (contract 8.7).
    """
    parameters = {
        "organization_id": organization_id,
        "image_id": image_id,
        "names": [tag.name for tag in tags],
        "digests": [tag.digest for tag in tags],
        "built_at": [tag.built_at for tag in tags],
        "observed_at": observed_at,
        "is_confirmed": is_confirmed,
        "is_synced": is_synced,
    }
    conn.execute(STATEMENTS["observe_tags"], parameters)
