"""Prune an organization: delete unseen images, old scans, old observations and audit entries.

Images are examined in windows, in the order of their ids. Rows are deleted in batches, each in one
short transaction, so that readers and recorders do not wait for long. A run that was interrupted
leaves nothing half deleted, and the next run deletes the rest.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from harborguard.model import Action, Actor, Scope
from harborguard.store.audit import record_action
from harborguard.store.connection import Connection
from harborguard.store.counters import find_image_count
from harborguard.store.errors import retry_once
from harborguard.store.images.rows import (
    delete_images,
    forget_deletions,
    list_image_ids,
    lock_images,
)
from harborguard.store.statements import STATEMENTS

MAX_IMAGES = 2000  # images that are examined at once, and at most deleted in one transaction
MAX_LISTED_IMAGES = 200  # images whose scans or observations are listed at once
MAX_ROWS = 2000  # scans, observations or audit entries in one transaction
MAX_LISTED_ROWS = 20_000  # scans or observations that are listed at once
MAX_NAMES = 20
# A transaction with images of many scans and findings is long, so the number of images adapts.
TARGET_SECONDS = 0.2
# Each deletion of images changes the version, and lists that take several statements start again
# (docs/design.md). So pause after each transaction, for this multiple of its duration.
PAUSE_FACTOR = 4
MAX_PAUSE = 2  # seconds
# Vacuum after the deletion of this fraction of the images, and of at least this number. Index-only
# scans read the table for pages that changed since the last vacuum.
VACUUM_FRACTION = 0.05
MIN_VACUUM = 1000


class _Statements(NamedTuple):
    """The names of the statements that list and delete old rows of a kind."""

    list_old: str
    delete_old: str


_SCANS = _Statements("list_old_scans", "delete_old_scans")
_OBSERVATIONS = _Statements("list_old_observations", "delete_old_observations")


@dataclass(frozen=True, slots=True)
class PrunePolicy:
    """What to delete; None keeps everything of its kind.

    `unseen_since` deletes images that no scan and no sync has seen since that time. Of the other
    images, it deletes older observations that are not the current ones of their tags. `keep_scans`
    is the number of scans of each tag that stay, 1 or more; scans that can still count stay as
    well. `audit_since` deletes older entries of the audit log.
    """

    unseen_since: datetime | None = None
    keep_scans: int | None = None
    audit_since: datetime | None = None


@dataclass(slots=True)
class PruneCounts:
    """The number of rows that a run deleted, or would delete; `examined` is a number of images.

    Scans and observations of the deleted images are not counted. `image_names` are the names of
    some of these images.
    """

    examined: int = 0
    images: int = 0
    scans: int = 0
    observations: int = 0
    audit_entries: int = 0
    image_names: list[str] = field(default_factory=list)


class Prune:
    """One run for an organization. With `dry_run`, it counts and deletes nothing."""

    def __init__(
        self,
        conn: Connection,
        organization_id: str,
        policy: PrunePolicy,
        *,
        actor: Actor,
        dry_run: bool = False,
    ) -> None:
        self.counts = PruneCounts()
        self._conn = conn
        self._scope = Scope(organization_id)
        self._policy = policy
        self._actor = actor
        self._dry_run = dry_run
        self._is_recorded = False
        self._batch = MAX_LISTED_IMAGES  # images in the next transaction
        self._duration = 0.0  # seconds of the last transaction
        self._deleted_images = 0  # since the last VACUUM

    def run(self) -> Iterator[int]:
        """Prune; yield the number of examined images after each window of images."""
        since, keep = self._policy.unseen_since, self._policy.keep_scans
        after = ""
        while window := self._next_window(after):
            remaining = window if since is None else self._prune_images(window, since)
            for start in range(0, len(remaining), MAX_LISTED_IMAGES):
                image_ids = remaining[start : start + MAX_LISTED_IMAGES]
                if keep is not None:
                    self.counts.scans += self._prune_rows(_SCANS, image_ids, keep=keep)
                if since is not None:
                    observations = self._prune_rows(_OBSERVATIONS, image_ids, since=since)
                    self.counts.observations += observations
            self.counts.examined += len(window)
            yield len(window)
            after = window[-1]
        if self._policy.audit_since is not None:
            self._prune_audit_log(self._policy.audit_since)
        self._forget_deletions()

    def _next_window(self, after: str) -> list[str]:
        if self._policy.unseen_since is None and self._policy.keep_scans is None:
            return []
        return list_image_ids(self._conn, self._scope, after=after, limit=MAX_IMAGES)

    def _prune_images(self, window: Sequence[str], since: datetime) -> list[str]:
        """Delete the unseen images of a window; return the ids of the others."""
        unseen = dict(self._list_unseen(window, since))
        image_ids = list(unseen)
        while image_ids and not self._dry_run:
            batch, image_ids = image_ids[: self._batch], image_ids[self._batch :]
            self.counts.images += self._delete(partial(self._delete_unseen, batch, since))
            self._batch = min(MAX_IMAGES, max(1, int(len(batch) * TARGET_SECONDS / self._duration)))
            self._vacuum_if_due(len(batch))
        if self._dry_run:
            self.counts.images += len(unseen)
        missing_names = MAX_NAMES - len(self.counts.image_names)
        self.counts.image_names += list(unseen.values())[:missing_names]
        return [image_id for image_id in window if image_id not in unseen]

    def _vacuum_if_due(self, deleted: int) -> None:
        self._deleted_images += deleted
        images = find_image_count(self._conn, self._scope.organization_id)
        if self._deleted_images >= max(MIN_VACUUM, VACUUM_FRACTION * images):
            self._conn.execute(STATEMENTS["vacuum_images"])
            self._deleted_images = 0

    def _list_unseen(self, image_ids: Sequence[str], since: datetime) -> list[tuple[str, str]]:
        """Return the ids and names of the unseen images."""
        cursor = self._execute("list_unseen_images", image_ids=list(image_ids), since=since)
        return cursor.fetchall()

    def _delete_unseen(self, image_ids: Sequence[str], since: datetime) -> int:
        locked = lock_images(self._conn, self._scope, image_ids)
        # A scan or a sync may have seen some of them before the lock.
        unseen = [image_id for image_id, _ in self._list_unseen(locked, since)]
        if unseen:
            self._record_run()
            self._record(Action.IMAGE_DELETED, *(f"image/{image_id}" for image_id in unseen))
            delete_images(self._conn, self._scope.organization_id, unseen)
        return len(unseen)

    def _prune_rows(
        self, statements: _Statements, image_ids: Sequence[str], **condition: Any
    ) -> int:
        """Delete the old scans or observations of images; return their number."""
        parameters = {"image_ids": list(image_ids), **condition}
        if self._dry_run:
            statement, parameters = self._statement(statements.list_old, **parameters, limit=None)
            return sum(1 for _ in self._conn.cursor().stream(statement, parameters))
        deleted = 0
        while True:
            found = self._execute(
                statements.list_old, **parameters, limit=MAX_LISTED_ROWS
            ).fetchall()
            for start in range(0, len(found), MAX_ROWS):
                batch = found[start : start + MAX_ROWS]
                deleted += self._delete(partial(self._delete_rows, statements, batch, **condition))
            if len(found) < MAX_LISTED_ROWS:
                return deleted

    def _delete_rows(
        self, statements: _Statements, rows: Sequence[tuple[str, str]], **condition: Any
    ) -> int:
        """Delete rows that are still old. Each is given by its id and that of its image."""
        # A recorder or a deletion may have made one of them current before the lock.
        lock_images(self._conn, self._scope, sorted({image_id for _, image_id in rows}))
        row_ids = [row_id for row_id, _ in rows]
        deleted = self._execute(statements.delete_old, ids=row_ids, **condition).rowcount
        if deleted:
            self._record_run()
        return deleted

    def _prune_audit_log(self, since: datetime) -> None:
        if self._dry_run:
            [(count,)] = self._execute("count_old_audit_entries", since=since).fetchall()
            self.counts.audit_entries = count
            return
        while deleted := self._delete(partial(self._delete_audit_entries, since)):
            self.counts.audit_entries += deleted

    def _delete_audit_entries(self, since: datetime) -> int:
        deleted = self._execute("delete_old_audit_entries", since=since, limit=MAX_ROWS).rowcount
        if deleted:
            self._record_run()
        return deleted

    def _forget_deletions(self) -> None:
        organization_id = self._scope.organization_id
        is_finished = self._dry_run
        while not is_finished:
            with self._conn.transaction():
                self._execute("lock_inventory")
                is_finished = not forget_deletions(self._conn, organization_id)

    def _delete(self, delete: Callable[[], int]) -> int:
        """Call a function in a transaction, again after a deadlock; return its number of rows."""

        def attempt() -> int:
            with self._conn.transaction():
                return delete()

        started = time.monotonic()
        deleted = retry_once(attempt)
        self._duration = time.monotonic() - started
        self._is_recorded = self._is_recorded or deleted > 0
        time.sleep(min(MAX_PAUSE, PAUSE_FACTOR * self._duration))
        return deleted

    def _record_run(self) -> None:
        """Record the run in its first transaction that deletes something."""
        if not self._is_recorded:
            self._record(Action.INVENTORY_PRUNED, f"organization/{self._scope.organization_id}")

    def _record(self, action: Action, *targets: str) -> None:
        record_action(self._conn, self._scope.organization_id, self._actor, action, *targets)

    def _execute(self, name: str, **parameters: Any) -> Any:
        return self._conn.execute(*self._statement(name, **parameters))

    def _statement(self, name: str, **parameters: Any) -> tuple[Any, dict[str, Any]]:
        return STATEMENTS[name], {"organization_id": self._scope.organization_id, **parameters}
