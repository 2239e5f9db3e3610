"""Discovery: what a registry holds, into the store."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from harborguard.errors import HarborGuardError, RegistryUnavailable
from harborguard.model import ObservedRepository, ObservedTag, Reference, TagChanges
from harborguard.oci import RegistryClient
from harborguard.oci.connections import MAX_CONNECTIONS
from harborguard.store.connection import Connection
from harborguard.store.registries import get_registry, record_sync
from harborguard.store.repositories import BuildTimes, list_build_times, record_repository

# So many repositories in a row without an answer are a registry that is down.
_PATIENCE = 3

_PROVIDERS = {
    "ghcr.io": "github",
    "docker.io": "docker",
    "quay.io": "quay",
    "gcr.io": "google",
    "pkg.dev": "google",
    "amazonaws.com": "ecr",
    "azurecr.io": "acr",
}
PROVIDERS = sorted({*_PROVIDERS.values(), "generic"})

Read = Callable[[str], ObservedRepository]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which repositories are meant: globs (`acme/*`, where `*` matches `/` too) of their paths."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def matches(self, repository: str) -> bool:
        """Whether a path matches any to include (none: all), and none to exclude."""
        included = not self.include or _matches(repository, self.include)
        return included and not _matches(repository, self.exclude)


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """What a pass will do: repositories to read, and images whose repositories are removed."""

    organization_id: str
    registry_id: str
    begun_at: datetime
    repositories: tuple[str, ...]
    removed: tuple[str, ...]
    build_times: dict[str, BuildTimes]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one repository: changes, or the error that kept it as it was."""

    repository: str
    changes: TagChanges = field(default_factory=TagChanges)
    error: HarborGuardError | None = None


def detect_provider(host: str) -> str:
    """Who runs the registry at a host, as far as the host's name tells."""
    for domain, provider in _PROVIDERS.items():
        if f".{host}".endswith(f".{domain}"):
            return provider
    return "generic"


def plan_sync(
    conn: Connection, organization_id: str, registry: RegistryClient, selection: Selection
) -> SyncPlan:
    """Reads the registry's whole catalog and compares it with what is known; changes nothing.

    A catalog without any repository is taken for one that we may not see: nothing is removed then.
    Raises RegistryError, and NotFound for a registry that was not added.
    """
    registry_id = get_registry(conn, organization_id, registry.host)
    begun_at = datetime.now(UTC)
    listed = registry.list_repositories()
    build_times = list_build_times(conn, organization_id, registry_id)
    known = [name.partition("/")[2] for name in build_times]
    removed = set(known) - set(listed) if listed else ()
    return SyncPlan(
        organization_id,
        registry_id,
        begun_at,
        repositories=tuple(name for name in listed if selection.matches(name)),
        removed=tuple(sorted(name for name in removed if selection.matches(name))),
        build_times=build_times,
    )


def synchronize(conn: Connection, registry: RegistryClient, plan: SyncPlan) -> Iterator[Outcome]:
    """Reads each repository and records it, a few being read ahead of the one that is recorded.

    A repository that fails is left as it is and does not stop the others; RegistryUnavailable
    ends the work where the registry seems to be down. The registry is closed at the end.
    """

    def read(repository: str) -> ObservedRepository:
        name = Reference(registry.host, repository).name
        return read_repository(registry, repository, plan.build_times.get(name, {}))

    unanswered = 0
    try:
        for repository, reading in _read_ahead(plan.repositories, read):
            outcome = _record(conn, plan, repository, reading)
            unanswered = unanswered + 1 if isinstance(outcome.error, RegistryUnavailable) else 0
            yield outcome
            if unanswered == _PATIENCE:
                raise RegistryUnavailable(f"{registry.host} seems to be down; the rest is left")
    finally:
        registry.close()  # should anything be read ahead still, it ends at its next step
    for repository in plan.removed:
        name = Reference(registry.host, repository).name
        nothing = ObservedRepository(name, (), plan.begun_at)
        yield Outcome(repository, _keep(conn, plan, nothing))
    record_sync(conn, plan.organization_id, plan.registry_id, plan.begun_at)


def read_repository(
    registry: RegistryClient, repository: str, build_times: BuildTimes
) -> ObservedRepository:
    """A repository as its registry shows it; build times that are known are not asked for again."""
    observed_at = datetime.now(UTC)
    times: dict[str, datetime | None] = {**build_times}
    tags = []
    for name in registry.list_tags(repository):
        digest = registry.find_digest(repository, name)
        if digest is None:
            continue
        if digest not in times:
            times[digest] = registry.find_build_time(repository, digest)
        tags.append(ObservedTag(name, digest, times[digest]))
    return ObservedRepository(Reference(registry.host, repository).name, tuple(tags), observed_at)


def _record(
    conn: Connection, plan: SyncPlan, repository: str, reading: Future[ObservedRepository]
) -> Outcome:
    try:
        seen = reading.result()
    except HarborGuardError as error:
        return Outcome(repository, error=error)
    return Outcome(repository, _keep(conn, plan, seen))


def _keep(conn: Connection, plan: SyncPlan, seen: ObservedRepository) -> TagChanges:
    return record_repository(conn, plan.organization_id, plan.registry_id, seen)


def _read_ahead(
    repositories: tuple[str, ...], read: Read
) -> Iterator[tuple[str, Future[ObservedRepository]]]:
    waiting: deque[tuple[str, Future[ObservedRepository]]] = deque()
    with ThreadPoolExecutor(MAX_CONNECTIONS) as pool:
        try:
            for repository in repositories:
                waiting.append((repository, pool.submit(read, repository)))
                if len(waiting) > 2 * MAX_CONNECTIONS:
                    yield waiting.popleft()
            yield from waiting
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _matches(repository: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(repository, glob) for glob in globs)
