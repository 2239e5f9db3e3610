"""Registry sync: read a registry's repositories and tags and record them in the store."""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from fnmatch import fnmatchcase

from harborguard.errors import (
    HarborGuardError,
    RegistryDenied,
    RegistryError,
    RegistryUnavailable,
)
from harborguard.model import ObservedRepository, ObservedTag, Reference, TagChanges
from harborguard.oci import RegistryClient
from harborguard.oci.connections import MAX_CONNECTIONS
from harborguard.store.connection import Connection
from harborguard.store.errors import retry_once
from harborguard.store.registries import get_registry, record_sync
from harborguard.store.repositories import RecordedTags, list_recorded_tags, record_repository

# A sync stops after this many consecutive repositories that raise RegistryUnavailable, and the
# reading of a repository after this many tags.
_MAX_CONSECUTIVE_FAILURES = 3
# Tags that an error message names, and the length of a name that is printed.
_MAX_REPORTED_TAGS = 10
_MAX_TAG = 128


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
    """The repositories that a sync reads: those in the catalog, and recorded ones that are not."""

    organization_id: str
    registry_id: str
    started_at: datetime
    repositories: tuple[str, ...]
    unlisted: tuple[str, ...]
    recorded: dict[str, RecordedTags]  # by the image's name


@dataclass(frozen=True, slots=True)
class RepositoryReading:
    """What could be read of a repository, and an error that names the tags that could not."""

    observed: ObservedRepository
    error: RegistryError | None = None


@dataclass(frozen=True, slots=True)
class RepositoryOutcome:
    """The recorded changes of one repository.

    `error` is why the repository, or some of its tags, could not be read. `is_inaccessible` means
    that the catalog lacks the repository and access to it is denied. Many registries respond so for
    a removed repository, so this is no failure of the sync.
    """

    repository: str
    changes: TagChanges = field(default_factory=TagChanges)
    error: HarborGuardError | None = None
    is_inaccessible: bool = False


ReadRepository = Callable[[str], RepositoryReading]


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

    If the catalog is empty, recorded repositories are not read: registries return an empty catalog
    if the credentials may not list.
    Raise RegistryError if the catalog is unusable, NotFound if the registry is not recorded.
    """
    registry_id = get_registry(conn, organization_id, registry.host)
    started_at = datetime.now(UTC)
    listed = registry.list_repositories()
    recorded = list_recorded_tags(conn, organization_id, registry_id)
    unlisted = {name.partition("/")[2] for name in recorded} - set(listed) if listed else ()
    return SyncPlan(
        organization_id,
        registry_id,
        started_at,
        repositories=tuple(name for name in listed if selection.matches(name)),
        unlisted=tuple(sorted(name for name in unlisted if selection.matches(name))),
        recorded=recorded,
    )


def synchronize(
    conn: Connection, registry: RegistryClient, plan: SyncPlan
) -> Generator[RepositoryOutcome]:
    """Read and record each repository of a plan, and yield its outcome.

    Worker threads read ahead while this thread records. A repository that fails is left unchanged
    and does not stop the others. Raise RegistryUnavailable if three consecutive repositories fail
    with that error: no response, or status 429 or 5xx after all retries. The registry client is
    closed when the reading ends.
    """
    unlisted = set(plan.unlisted)

    def read(repository: str) -> RepositoryReading:
        name = Reference(registry.host, repository).name
        recorded = plan.recorded.get(name, RecordedTags())
        return read_repository(
            registry, repository, recorded, is_in_catalog=repository not in unlisted
        )

    consecutive_failures = 0
    # Keep a reference. Otherwise an exception in the loop would close the generator, which waits
    # for the workers, before the registry client is closed, which ends their requests.
    readings = _read_ahead((*plan.repositories, *plan.unlisted), read)
    try:
        for repository, future in readings:
            outcome = _record(conn, plan, repository, future)
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
        readings.close()  # waits for the worker threads
    record_sync(conn, plan.organization_id, plan.registry_id, plan.started_at)


def read_repository(
    registry: RegistryClient,
    repository: str,
    recorded: RecordedTags,
    *,
    is_in_catalog: bool = True,
) -> RepositoryReading:
    """Read the digests and missing build times of a repository's listed and recorded tags.

    A tag is missing only if the registry reports so for this tag by name, and for a listed tag once
    more after all others. A list alone is no proof: it may be incomplete without an error. A tag
    that cannot be read is left out; its name and the reason are in the error of the result, a
    RegistryDenied if access to all tags is denied.

    Raise RegistryUnavailable if three consecutive tags, or all, cannot be read for that reason.
    Raise RegistryError if the registry contradicts itself: it does not know a repository that is in
    its catalog, or any tag that it lists.
    """
    observed_at = datetime.now(UTC)
    build_times = _BuildTimes(registry, repository, recorded.build_times)
    listed = registry.list_tags(repository)
    if listed is None and is_in_catalog:
        raise RegistryError(
            "left unchanged: the registry contradicts itself. Its catalog contains the repository, "
            "but the list of its tags reports that it does not exist"
        )
    names = list(dict.fromkeys([*(listed or ()), *sorted(recorded.names)]))
    queue, not_repeated = deque(names), set(listed or ())
    tags: list[ObservedTag] = []
    missing: list[str] = []
    failures: list[tuple[str, HarborGuardError]] = []
    consecutive_failures = 0
    while queue:
        name = queue.popleft()
        try:
            digest = registry.find_digest(repository, name)
        except HarborGuardError as error:
            failures.append((name, error))
            is_unavailable = isinstance(error, RegistryUnavailable)
            consecutive_failures = consecutive_failures + 1 if is_unavailable else 0
            if consecutive_failures == min(_MAX_CONSECUTIVE_FAILURES, len(names)):
                raise
            continue
        consecutive_failures = 0
        if digest is not None:
            tags.append(ObservedTag(name, digest, build_times.find(digest)))
        elif name in not_repeated:
            # A replica or a storage that lags behind does not know some listed tags for a moment.
            not_repeated.remove(name)
            queue.append(name)
        else:
            missing.append(name)
    _check_listed(listed or [], tags, missing)
    name = Reference(registry.host, repository).name
    observed = ObservedRepository(name, tuple(tags), observed_at, tuple(missing))
    if not failures:
        return RepositoryReading(observed)
    is_denied = len(failures) == len(names) and all(
        isinstance(error, RegistryDenied) for _, error in failures
    )
    kind = RegistryDenied if is_denied else RegistryError
    return RepositoryReading(observed, kind(_describe_failures(failures)))


def _check_listed(listed: list[str], tags: list[ObservedTag], missing: list[str]) -> None:
    """Raise RegistryError if listed tags are missing and no listed tag exists."""
    unknown = len({*listed} & {*missing})
    if unknown and not {*listed} & {tag.name for tag in tags}:
        raise RegistryError(
            f"left unchanged: the registry contradicts itself. It lists {len(listed)} tags, but "
            f"reports that {unknown} of them do not exist, and the digest of none"
        )


class _BuildTimes:
    """The build times of a repository's digests, each requested once.

    A build time is not necessary. Once the registry is unavailable for one, no others are
    requested, because each would wait for all retries.
    """

    def __init__(
        self, registry: RegistryClient, repository: str, known: dict[str, datetime]
    ) -> None:
        self._registry = registry
        self._repository = repository
        self._times: dict[str, datetime | None] = {**known}
        self._is_available = True

    def find(self, digest: str) -> datetime | None:
        """Return the build time of a digest, or None if it is unknown."""
        if digest not in self._times and self._is_available:
            try:
                self._times[digest] = self._registry.find_build_time(self._repository, digest)
            except RegistryUnavailable:
                self._is_available = False
        return self._times.get(digest)


def _describe_failures(failures: list[tuple[str, HarborGuardError]]) -> str:
    """Return a message that names the tags that could not be read, with the reasons."""
    reported = [
        f"tag {name[:_MAX_TAG]}: {error.message}" for name, error in failures[:_MAX_REPORTED_TAGS]
    ]
    if len(failures) > _MAX_REPORTED_TAGS:
        reported.append(f"{len(failures) - _MAX_REPORTED_TAGS} more tags")
    return f"left unchanged: {'; '.join(reported)}"


def _record(
    conn: Connection, plan: SyncPlan, repository: str, future: Future[RepositoryReading]
) -> RepositoryOutcome:
    changes = TagChanges()
    try:
        reading = future.result()
    except HarborGuardError as error:
        failure = error
    else:
        changes = retry_once(
            lambda: record_repository(
                conn, plan.organization_id, plan.registry_id, reading.observed
            )
        )
        failure = reading.error
    is_inaccessible = isinstance(failure, RegistryDenied) and repository in plan.unlisted
    return RepositoryOutcome(repository, changes, failure, is_inaccessible)


def _read_ahead(
    repositories: tuple[str, ...], read: ReadRepository
) -> Generator[tuple[str, Future[RepositoryReading]]]:
    """Yield each repository with its result, in order; keep a bounded number of results."""
    pending: deque[tuple[str, Future[RepositoryReading]]] = deque()
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
