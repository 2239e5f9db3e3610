"""Prune an organization: delete unseen images, old scans, old observations and audit entries.

Everything is deleted in batches, each in a transaction of its own, so that readers and writers do
not wait for long. A run that was interrupted leaves nothing half deleted, and the next run goes on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from harborguard.model import Action, Actor, Scope
from harborguard.store.audit import record_action
from harborguard.store.connection import Connection
from harborguard.store.images.rows import delete_images, list_image_ids, lock_images
from harborguard.store.statements import STATEMENTS

WINDOW = 200  # images that are examined at once
BATCH = 2000  # scans, observations or audit entries in one transaction


@dataclass(frozen=True, slots=True)
class PrunePolicy:
    """What to delete; None keeps everything of its kind.

    `unseen_since` deletes images that no scan and no sync has seen since that time, and older
    observations of tags that are not current. `keep_scans` is the number of scans of each tag that
    stay, 1 or more; scans that can still count stay as well. `audit_since` deletes older entries of
    the audit log.
    """

    unseen_since: datetime | None = None
    keep_scans: int | None = None
    audit_since: datetime | None = None


@dataclass(slots=True)
class PruneCounts:
    """The number of rows that a run deleted, or would delete; `examined` is a number of images."""

    examined: int = 0
    images: int = 0
    scans: int = 0
    observations: int = 0
    audit_entries: int = 0


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
        self._is_recorded = dry_run

    def run(self) -> Iterator[int]:
        """Prune; yield the number of examined images after each window of images."""
        after = ""
        while window := list_image_ids(self._conn, self._scope, after=after, limit=WINDOW):
            self._prune_images(window)
            self._prune_scans(window)
            self._prune_observations(window)
            self.counts.examined += len(window)
            yield len(window)
            after = window[-1]
        self._prune_audit_log()

    def _prune_images(self, window: Sequence[str]) -> None:
        if self._policy.unseen_since is None:
            return
        unseen = self._list("list_unseen_images", window, since=self._policy.unseen_since)
        image_ids = [image_id for (image_id,) in unseen]
        if image_ids and not self._dry_run:
            with self._conn.transaction():
                locked = lock_images(self._conn, self._scope, image_ids)
                # A scan or a sync may have seen some of them before the lock.
                unseen = self._list("list_unseen_images", locked, since=self._policy.unseen_since)
                image_ids = [image_id for (image_id,) in unseen]
                self._record_run()
                for image_id in image_ids:
                    self._record(Action.IMAGE_DELETED, f"image/{image_id}")
                delete_images(self._conn, self._scope.organization_id, image_ids)
        self.counts.images += len(image_ids)

    def _prune_scans(self, window: Sequence[str]) -> None:
        if self._policy.keep_scans is not None:
            self.counts.scans += self._delete_rows(
                window, "list_old_scans", "delete_scans", "scan_ids", keep=self._policy.keep_scans
            )

    def _prune_observations(self, window: Sequence[str]) -> None:
        if self._policy.unseen_since is not None:
            self.counts.observations += self._delete_rows(
                window,
                "list_old_observations",
                "delete_observations",
                "tag_ids",
                since=self._policy.unseen_since,
            )

    def _delete_rows(
        self, window: Sequence[str], list_name: str, delete_name: str, ids: str, **parameters: Any
    ) -> int:
        """Delete the listed rows of a window of images in batches; return their number."""
        if self._dry_run:
            return len(self._list(list_name, window, limit=None, **parameters))
        deleted = 0
        while found := self._list(list_name, window, limit=BATCH, **parameters):
            with self._conn.transaction():
                # A recorder of one of these images could make a listed row current before the lock.
                image_ids = sorted({image_id for _, image_id in found})
                locked = lock_images(self._conn, self._scope, image_ids)
                found = self._list(list_name, locked, limit=BATCH, **parameters)
                self._record_run()
                self._execute(delete_name, **{ids: [row_id for row_id, _ in found]})
            deleted += len(found)
        return deleted

    def _prune_audit_log(self) -> None:
        if self._policy.audit_since is None:
            return
        since = self._policy.audit_since
        if self._dry_run:
            [(self.counts.audit_entries,)] = self._execute("count_old_audit_entries", since=since)
            return
        while True:
            with self._conn.transaction():
                deleted = self._conn.execute(
                    STATEMENTS["delete_old_audit_entries"],
                    {
                        "organization_id": self._scope.organization_id,
                        "since": since,
                        "limit": BATCH,
                    },
                ).rowcount
                if deleted:
                    self._record_run()
            self.counts.audit_entries += deleted
            if deleted < BATCH:
                return

    def _list(
        self, name: str, image_ids: Sequence[str], **parameters: Any
    ) -> list[tuple[Any, ...]]:
        return self._execute(name, image_ids=list(image_ids), **parameters)

    def _execute(self, name: str, **parameters: Any) -> list[tuple[Any, ...]]:
        key = {"organization_id": self._scope.organization_id}
        cursor = self._conn.execute(STATEMENTS[name], {**key, **parameters})
        return cursor.fetchall() if cursor.description else []

    def _record_run(self) -> None:
        """Record the run in its first transaction that deletes something."""
        if not self._is_recorded:
            self._record(Action.INVENTORY_PRUNED, f"organization/{self._scope.organization_id}")
            self._is_recorded = True

    def _record(self, action: Action, target: str) -> None:
        record_action(self._conn, self._scope.organization_id, self._actor, action, target)
