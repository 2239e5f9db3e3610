"""The command line: schema, organizations, credentials, reports, images, registries, pruning.

Secrets and tables go to standard output, messages and errors to standard error.
"""

import click

from harborguard import __version__
from harborguard.cli import (
    credentials,
    export,
    images,
    organizations,
    prune,
    registries,
    scans,
    schema,
)
from harborguard.cli.terminal import Commands
from harborguard.config import Config
from harborguard.observability.logs import configure_logging


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="harborguard")
def main() -> None:
    """Manage HarborGuard's inventory of container images.

    Commands use the database of DATABASE_URL. If it is not set, they use the embedded database of
    this checkout. They share it with `make run`, or start it themselves and stop it at the end.
    """
    configure_logging(Config.from_env())


for command in (
    schema.migrate,
    schema.recount,
    organizations.org,
    organizations.user,
    credentials.key,
    credentials.token,
    scans.ingest,
    images.image,
    export.export,
    registries.registry,
    prune.prune,
):
    main.add_command(command)
