"""Random histories of an inventory, with pollers that read its changes while writers are killed."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg import errors as sqlstate

from harborguard.config import Config
from harborguard.errors import Gone, NotFound, StoreUnavailable
from harborguard.ingest import ingest_report
from harborguard.listing import (
    ChangePosition,
    ChangesPage,
    DeletedImage,
    ImageCriteria,
    ImageSummary,
    Page,
)
from harborguard.model import Scope
from harborguard.store import deletion
from harborguard.store.connection import Connection, connect
from harborguard.store.images.changes import list_changes
from harborguard.store.images.list import list_images
from harborguard.store.images.rows import list_image_ids
from harborguard.store.organizations import create_organization
from harborguard.store.prune import Prune, PrunePolicy
from harborguard.store.registries import find_registry
from tests.support import reports
from tests.support.tenants import OPERATOR

WRITERS = 4
HOSTS = ("ghcr.io", "quay.io")
NAMES = [f"{host}/acme/{number}" for host in HOSTS for number in range(8)]
# Scans finish after the rows are recorded, so that their times alone decide what is pruned.
_BEGIN = datetime(2100, 1, 1, tzinfo=UTC)
# A writer that was killed, or that two transactions disturbed.
_DISTURBED = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    sqlstate.ForeignKeyViolation,
    StoreUnavailable,
    NotFound,
)
# Deletions become old, so that the next one forgets them.
_AGE = """
UPDATE image_changes
SET deleted_at = deleted_at - interval '31 days'
WHERE organization_id = %s AND deleted_at > now() - interval '30 days'
"""
_KILL = """
SELECT pg_terminate_backend(pid)
FROM pg_stat_activity
WHERE pid = ANY (%s) AND state <> 'idle'
"""
# A killed writer's transaction is visible here until it has ended.
_RUNNING = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY (%s)"


@dataclass
class Poller:
    """A client that keeps a copy of the list up to date by the changes."""

    conn: Connection
    scope: Scope
    registry: str | None
    numbers: random.Random
    images: dict[str, ImageSummary] = field(default_factory=dict)
    position: ChangePosition | None = None
    pages: int = 0
    restarts: int = 0

    def poll(self) -> ChangesPage | None:
        """Apply one page of changes; start again and return None if the cursor is too old."""
        limit = self.numbers.choice((1, 2, 3, 5, 50))
        try:
            page = list_changes(
                self.conn, self.scope, registry=self.registry, after=self.position, limit=limit
            )
        except Gone:
            self.images.clear()
            self.position = None
            self.restarts += 1
            return None
        self.pages += 1
        ids = [item.id for item in page.items]
        assert len(ids) == len(set(ids)), "an image occurs twice in a page"
        for item in page.items:
            if isinstance(item, DeletedImage):
                self.images.pop(item.id, None)
            else:
                self.images[item.id] = item
        self.position = page.position
        return page

    def catch_up(self) -> None:
        """Follow the pages to the end."""
        while (page := self.poll()) is None or page.has_next:
            pass

    def differences(self) -> list[str]:
        """Return the names of the images in which copy and list differ."""
        criteria = ImageCriteria(registry=self.registry)
        listed = list_images(self.conn, self.scope, criteria, Page(1, 200)).items
        expected = {image.id: image for image in listed}
        either = expected | self.images
        return [
            image.name
            for image_id, image in either.items()
            if expected.get(image_id) != self.images.get(image_id)
        ]


@dataclass(frozen=True)
class Result:
    """What a history did, and the images in which a copy differs from the list."""

    differences: list[str]
    steps: int
    disturbed: int
    kills: int
    pages: int
    restarts: int


class Writer:
    """A connection that executes random steps in a thread, and connects again when it is killed."""

    def __init__(self, config: Config, organization_id: str, seed: str) -> None:
        self.config = config
        self.organization_id = organization_id
        self.seed = seed
        self.numbers = random.Random(seed)
        self.conn = connect(config)
        self.disturbed = 0
        self.failure: BaseException | None = None

    @property
    def pid(self) -> int:
        """Return the process id of the current connection's server process, or 0."""
        try:
            return self.conn.info.backend_pid
        except psycopg.Error:
            return 0

    def run(self, steps: int) -> None:
        """Execute steps; keep an unexpected exception."""
        try:
            for number in range(steps):
                try:
                    self._step(number)
                except _DISTURBED:
                    self.disturbed += 1
                    if self.conn.closed:
                        self.conn = connect(self.config)
        except BaseException as error:
            self.failure = error
        finally:
            self.conn.close()

    def _step(self, number: int) -> None:
        kind = self.numbers.choices(["scan", "delete", "prune", "remove", "age"], [14, 4, 1, 1, 2])[
            0
        ]
        scope = Scope(self.organization_id)
        match kind:
            case "scan":
                self._scan(number)
            case "delete":
                ids = list_image_ids(self.conn, scope, after="", limit=50)
                if ids:
                    image_id = self.numbers.choice(ids)
                    deletion.delete_image(self.conn, scope, image_id, actor=OPERATOR)
            case "prune":
                # Deletes the images without a recent scan, in one transaction.
                since = _BEGIN + timedelta(minutes=self.numbers.randrange(20))
                policy = PrunePolicy(unseen_since=since)
                for _ in Prune(self.conn, self.organization_id, policy, actor=OPERATOR).run():
                    pass
            case "remove":
                registry_id = find_registry(
                    self.conn, self.organization_id, self.numbers.choice(HOSTS)
                )
                if registry_id:
                    for _ in deletion.remove_registry(
                        self.conn, self.organization_id, registry_id, actor=OPERATOR
                    ):
                        pass
            case _:
                self.conn.execute(_AGE, [self.organization_id])

    def _scan(self, number: int) -> None:
        numbers = self.numbers
        name = numbers.choice(NAMES)
        ingest_report(
            self.conn,
            self.organization_id,
            reports.envelope(
                f"{name}:{numbers.randrange(3)}",
                (numbers.randrange(2), numbers.randrange(4)),
                scan_id=f"{self.seed}-{number}",
                finished_at=_BEGIN + timedelta(minutes=numbers.randrange(40)),
                status=numbers.choice(("SUCCESS", "SUCCESS", "SUCCESS", "FAILED")),
            ),
            received_at=_BEGIN + timedelta(days=1),
        )


def run_history(config: Config, seed: int, *, steps: int = 12) -> Result:
    """Execute a history with four writers and two pollers; return what was observed.

    One poller reads all changes, one those of a registry. Transactions are killed at any moment.
    """
    numbers = random.Random(seed)
    with connect(config) as conn, _pollers(config, conn, seed) as (organization_id, pollers):
        writers = [Writer(config, organization_id, f"{seed}-{n}") for n in range(WRITERS)]
        threads = [threading.Thread(target=writer.run, args=[steps]) for writer in writers]
        pids: set[int] = set()
        kills = 0
        with _polling(pollers):
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                time.sleep(numbers.uniform(0.005, 0.06))
                pids |= {writer.pid for writer in writers}
                victim = numbers.choice(writers).pid
                kills += conn.execute(_KILL, [[victim]]).rowcount
            for thread in threads:
                thread.join()
        while conn.execute(_RUNNING, [sorted(pids)]).fetchall() != [(0,)]:
            time.sleep(0.001)
        for writer in writers:
            if writer.failure:
                raise writer.failure
        differences: list[str] = []
        for poller in pollers:
            poller.catch_up()
            differences += poller.differences()
    return Result(
        differences,
        steps * WRITERS,
        sum(writer.disturbed for writer in writers),
        kills,
        sum(poller.pages for poller in pollers),
        sum(poller.restarts for poller in pollers),
    )


@contextmanager
def _pollers(config: Config, conn: Connection, seed: int) -> Iterator[tuple[str, list[Poller]]]:
    organization_id = create_organization(conn, f"history-{seed}", actor=OPERATOR)
    scope = Scope(organization_id)
    with connect(config) as first, connect(config) as second:
        yield (
            organization_id,
            [
                Poller(first, scope, None, random.Random(seed)),
                Poller(second, scope, HOSTS[0], random.Random(seed)),
            ],
        )
    deletion.begin_organization_deletion(conn, organization_id)
    for _ in deletion.delete_organization(conn, organization_id):
        pass


@contextmanager
def _polling(pollers: list[Poller]) -> Iterator[None]:
    """Poll in a thread for each poller; raise what one of them raises."""
    stopped = threading.Event()
    failures: list[BaseException] = []

    def guard(poll: Callable[[], object], numbers: random.Random) -> None:
        try:
            while not stopped.is_set():
                poll()
                # A deletion can be forgotten meanwhile.
                time.sleep(numbers.choices((0, 0.02, 0.3), (30, 1, 1))[0])
        except BaseException as error:
            failures.append(error)

    threads = [
        threading.Thread(target=guard, args=[poller.poll, poller.numbers]) for poller in pollers
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
