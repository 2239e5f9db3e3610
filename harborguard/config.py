"""The settings: every name, default and check; the only reader of the environment."""

from dataclasses import dataclass, field
from pathlib import Path

from environs import FileAwareEnv, validate

from harborguard.errors import ConfigurationError

PROJECT_DIRECTORY = Path(__file__).parents[1]
LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
LOG_FORMATS = ("auto", "json", "text")


@dataclass(frozen=True)
class Config:
    """What an operator can set; README.md has the table, a test keeps the two together.

    `database_url` is empty where none is set: only a local trial can do without.
    Times are in seconds but for `statement_timeout_ms`.
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
    max_upload_bytes: int = 64 * 2**20
    uploads_per_minute: int = 120
    docs: bool = True
    registry_password: str = field(default="", repr=False)
    sudo_uid: int | None = None

    @property
    def addresses(self) -> list[str]:
        """Where to listen: host:port or unix:path each."""
        return list(_split(self.bind)) or [f"127.0.0.1:{self.port}"]

    @property
    def pool_size(self) -> int:
        """Connections a worker may hold: one for each thread, and one to spare."""
        return self.threads + 1

    @classmethod
    def from_env(cls) -> "Config":
        """The settings of this process; raises ConfigurationError with all that is wrong."""
        env = FileAwareEnv(eager=False, strip_whitespace=True)
        try:
            config = cls._read(env)
            env.seal()
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
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
            max_upload_bytes=env.int(
                "HARBORGUARD_MAX_UPLOAD_BYTES", cls.max_upload_bytes, validate=positive
            ),
            uploads_per_minute=env.int(
                "HARBORGUARD_UPLOADS_PER_MINUTE", cls.uploads_per_minute, validate=positive
            ),
            docs=env.bool("HARBORGUARD_DOCS", cls.docs),
            registry_password=env.str("HARBORGUARD_REGISTRY_PASSWORD", ""),
            sudo_uid=env.int("SUDO_UID", None),
        )


def _split(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())
