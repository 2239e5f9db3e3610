"""Settings: names, defaults and checks. Only this module reads environment variables."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from environs import FileAwareEnv, validate

from harborguard.errors import ConfigurationError

PROJECT_DIRECTORY = Path(__file__).parents[1]
LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
LOG_FORMATS = ("auto", "json", "text")


@dataclass(frozen=True)
class Config:
    """The settings of the service and the command line.

    `database_url` is empty if none is set; the command line and `make run` then use the embedded
    server. Times are in seconds, except those in `_ms`.
    """

    database_url: str = ""
    nextauth_secrets: tuple[str, ...] = ()
    state_directory: Path = PROJECT_DIRECTORY / ".state"
    port: int = 8000
    bind: str = ""
    proxies: int = 0
    workers: int = 2
    threads: int = 1
    pool_timeout: float = 2.0
    statement_timeout_ms: int = 4000
    pooler: bool = False
    log_level: str = "info"
    log_format: str = "auto"
    metrics_port: int = 0
    inventory_metrics: bool = True
    max_upload_bytes: int = 64 * 2**20
    new_scans_per_minute: int = 1200
    rejections_per_minute: int = 30
    exports: int = 1
    export_timeout_ms: int = 20_000
    docs: bool = True
    page: bool = True
    registry_password: str = field(default="", repr=False)
    sudo_uid: int | None = None
    sudo_user: str = ""

    @property
    def addresses(self) -> list[str]:
        """Return the addresses to listen on, each host:port or unix:path."""
        return list(_split(self.bind)) or [f"127.0.0.1:{self.port}"]

    @property
    def pool_size(self) -> int:
        """Return the maximum number of connections of a worker: one per thread and one spare."""
        return self.threads + 1

    @classmethod
    def from_env(cls) -> "Config":
        """Read the settings from environment variables.

        The value of NAME can also be in a file, whose path is in the variable NAME_FILE.

        Raise ConfigurationError if any value is invalid or a file cannot be read.
        """
        env = FileAwareEnv(eager=False, strip_whitespace=True)
        try:
            config = cls._read(env)
            env.seal()
        except (OSError, ValueError) as error:
            raise ConfigurationError(_describe(error)) from None
        return config

    @classmethod
    def _read(cls, env: FileAwareEnv) -> "Config":
        positive = validate.Range(min=1)
        return cls(
            database_url=env.str("DATABASE_URL", ""),
            nextauth_secrets=_split(env.str("NEXTAUTH_SECRET", "")),
            state_directory=Path(env.str("HARBORGUARD_STATE_DIR", "") or cls.state_directory),
            port=env.int("PORT", cls.port, validate=validate.Range(min=1, max=65535)),
            bind=env.str("HARBORGUARD_BIND", ""),
            proxies=env.int("HARBORGUARD_PROXIES", cls.proxies, validate=validate.Range(min=0)),
            workers=env.int("HARBORGUARD_WORKERS", cls.workers, validate=positive),
            threads=env.int("HARBORGUARD_THREADS", cls.threads, validate=positive),
            pool_timeout=env.float(
                "HARBORGUARD_POOL_TIMEOUT",
                cls.pool_timeout,
                validate=validate.Range(min=0.1, max=30),
            ),
            statement_timeout_ms=env.int(
                "HARBORGUARD_STATEMENT_TIMEOUT_MS", cls.statement_timeout_ms, validate=positive
            ),
            pooler=env.bool("HARBORGUARD_POOLER", cls.pooler),
            log_level=env.str(
                "HARBORGUARD_LOG_LEVEL", cls.log_level, validate=validate.OneOf(LOG_LEVELS)
            ),
            log_format=env.str(
                "HARBORGUARD_LOG_FORMAT", cls.log_format, validate=validate.OneOf(LOG_FORMATS)
            ),
            metrics_port=env.int(
                "HARBORGUARD_METRICS_PORT",
                cls.metrics_port,
                validate=validate.Range(min=0, max=65535),
            ),
            inventory_metrics=env.bool("HARBORGUARD_INVENTORY_METRICS", cls.inventory_metrics),
            max_upload_bytes=env.int(
                "HARBORGUARD_MAX_UPLOAD_BYTES", cls.max_upload_bytes, validate=positive
            ),
            new_scans_per_minute=env.int(
                "HARBORGUARD_NEW_SCANS_PER_MINUTE", cls.new_scans_per_minute, validate=positive
            ),
            rejections_per_minute=env.int(
                "HARBORGUARD_REJECTIONS_PER_MINUTE", cls.rejections_per_minute, validate=positive
            ),
            exports=env.int("HARBORGUARD_EXPORTS", cls.exports, validate=positive),
            export_timeout_ms=env.int(
                "HARBORGUARD_EXPORT_TIMEOUT_MS", cls.export_timeout_ms, validate=positive
            ),
            docs=env.bool("HARBORGUARD_DOCS", cls.docs),
            page=env.bool("HARBORGUARD_PAGE", cls.page),
            registry_password=env.str("HARBORGUARD_REGISTRY_PASSWORD", ""),
            sudo_uid=env.int("SUDO_UID", None),
            sudo_user=env.str("SUDO_USER", ""),
        )


def _describe(error: OSError | ValueError) -> str:
    cause = error.__cause__ or error
    if isinstance(cause, OSError):
        name = _find_file_variable(lambda path: path == Path(cause.filename))
        return f"{name}: cannot read {cause.filename}: {cause.strerror}"
    if isinstance(cause, UnicodeDecodeError):
        name = _find_file_variable(lambda path: _has_content(path, cause.object))
        return f"{name}: the file is not UTF-8 text"
    return str(error)


def _find_file_variable(is_match: Callable[[Path], bool]) -> str:
    """Return the name of the variable with the path of a matching file."""
    paths = {name: Path(value) for name, value in os.environ.items() if name.endswith("_FILE")}
    return next((name for name, path in paths.items() if is_match(path)), "NAME_FILE")


def _has_content(path: Path, content: bytes) -> bool:
    try:
        return path.is_file() and path.read_bytes() == content
    except OSError:
        return False


def _split(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())
