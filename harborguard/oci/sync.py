"""Registry sync: read a registry's repositories and tags and record them in the store."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from fnmatch import fnmatchcase

from harborguard.errors import HarborGuardError, RegistryUnavailable
from harborguard.model import ObservedRepository, ObservedTag, Reference, TagChanges
from harborguard.oci import RegistryClient
from harborguard.oci.connections import MAX_CONNECTIONS
from harborguard.store.connection import Connection
from harborguard.store.registries import get_registry, record_sync
from harborguard.store.repositories import BuildTimes, list_build_times, record_repository

# A sync stops after this many consecutive repositories that raise RegistryUnavailable.
_MAX_CONSECUTIVE_FAILURES = 3

ReadRepository = Callable[[str], ObservedRepository]


class Provider(StrEnum):
    """The service or software that hosts a registry."""

    ACR = "acr"
    DOCKER = "docker"
    ECR = "ecr"
    GENERIC = "generic"
    GITHUB = "github"
    GOOGLE = "google"
    QUAY = "quay"


_PROVIDERS_BY_DOMAIN = {
    "ghcr.io": Provider.GITHUB,
    "docker.io": Provider.DOCKER,
    "quay.io": Provider.QUAY,
    "gcr.io": Provider.GOOGLE,
    "pkg.dev": Provider.GOOGLE,
    "amazonaws.com": Provider.ECR,
    "azurecr.io": Provider.ACR,
}


@dataclass(frozen=True, slots=True)
class Selection:
    """Selection of repositories by globs that match their whole path; `*` also matches `/`."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def matches(self, repository: str) -> bool:
        """Return whether a path matches `include` (empty matches all) and not `exclude`."""
        is_included = not self.include or _matches_any(repository, self.include)
        return is_included and not _matches_any(repository, self.exclude)


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """The repositories that a sync reads, and those whose tags it removes."""

    organization_id: str
    registry_id: str
    started_at: datetime
    repositories: tuple[str, ...]
    removed: tuple[str, ...]
    build_times: dict[str, BuildTimes]


@dataclass(frozen=True, slots=True)
class RepositoryOutcome:
    """The recorded changes of one repository, or the error that left it unchanged."""

    repository: str
    changes: TagChanges = field(default_factory=TagChanges)
    error: HarborGuardError | None = None


def detect_provider(host: str) -> Provider:
    """Return the provider of a registry by the domain of its host, or `generic`."""
    for domain, provider in _PROVIDERS_BY_DOMAIN.items():
        if f".{host}".endswith(f".{domain}"):
            return provider
    return Provider.GENERIC


def plan_sync(
    conn: Connection, organization_id: str, registry: RegistryClient, selection: Selection
) -> SyncPlan:
    """Compare the registry's catalog with the recorded images. Write nothing.

    An empty catalog removes nothing: registries return one if the credentials may not list.
    Raise RegistryError if the catalog is unusable, NotFound if the registry is not recorded.
    """
    registry_id = get_registry(conn, organization_id, registry.host)
    started_at = datetime.now(UTC)
    listed = registry.list_repositories()
    build_times = list_build_times(conn, organization_id, registry_id)
    recorded = [name.partition("/")[2] for name in build_times]
    removed = set(recorded) - set(listed) if listed else ()
    return SyncPlan(
        organization_id,
        registry_id,
        started_at,
        repositories=tuple(name for name in listed if selection.matches(name)),
        removed=tuple(sorted(name for name in removed if selection.matches(name))),
        build_times=build_times,
    )


def synchronize(
    conn: Connection, registry: RegistryClient, plan: SyncPlan
) -> Iterator[RepositoryOutcome]:
    """Read and record each repository of a plan, and yield its outcome.

    Worker threads read ahead while this thread records. A repository that fails is left unchanged
    and does not stop the others. Raise RegistryUnavailable if three consecutive repositories fail
    with that error: no response, or status 429 or 5xx after all retries. The registry client is
    closed when the reading ends.
    """

    def read(repository: str) -> ObservedRepository:
        name = Reference(registry.host, repository).name
        return read_repository(registry, repository, plan.build_times.get(name, {}))

    consecutive_failures = 0
    try:
        for repository, future in _read_ahead(plan.repositories, read):
            outcome = _record_result(conn, plan, repository, future)
            is_unavailable = isinstance(outcome.error, RegistryUnavailable)
            consecutive_failures = consecutive_failures + 1 if is_unavailable else 0
            yield outcome
            if consecutive_failures == _MAX_CONSECUTIVE_FAILURES:
                raise RegistryUnavailable(
                    f"{registry.host} is unavailable: {consecutive_failures} consecutive "
                    "repositories failed. The others are skipped."
                )
    finally:
        registry.close()  # makes requests that worker threads still send fail
    for repository in plan.removed:
        name = Reference(registry.host, repository).name
        without_tags = ObservedRepository(name, (), plan.started_at)
        yield RepositoryOutcome(repository, _record(conn, plan, without_tags))
    record_sync(conn, plan.organization_id, plan.registry_id, plan.started_at)


def read_repository(
    registry: RegistryClient, repository: str, build_times: BuildTimes
) -> ObservedRepository:
    """Read a repository's tags, their digests and the build times missing in `build_times`."""
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


def _record_result(
    conn: Connection, plan: SyncPlan, repository: str, future: Future[ObservedRepository]
) -> RepositoryOutcome:
    try:
        observed = future.result()
    except HarborGuardError as error:
        return RepositoryOutcome(repository, error=error)
    return RepositoryOutcome(repository, _record(conn, plan, observed))


def _record(conn: Connection, plan: SyncPlan, observed: ObservedRepository) -> TagChanges:
    return record_repository(conn, plan.organization_id, plan.registry_id, observed)


def _read_ahead(
    repositories: tuple[str, ...], read: ReadRepository
) -> Iterator[tuple[str, Future[ObservedRepository]]]:
    """Yield each repository with its result, in order; keep a bounded number of results."""
    pending: deque[tuple[str, Future[ObservedRepository]]] = deque()
    with ThreadPoolExecutor(MAX_CONNECTIONS) as executor:
        try:
            for repository in repositories:
                pending.append((repository, executor.submit(read, repository)))
                if len(pending) > 2 * MAX_CONNECTIONS:
                    yield pending.popleft()
            yield from pending
        finally:
            executor.shutdown(wait=False, cancel_futures=True)


def _matches_any(repository: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(repository, glob) for glob in globs)
