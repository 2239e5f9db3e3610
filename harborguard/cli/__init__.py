"""The command line: what an operator does beside the API.

A secret is printed once, alone on standard output; lists go to standard output too, and everything
that is said about the work to standard error.
"""

import click

from harborguard import __version__
from harborguard.cli import credentials, organizations, registries, scans, schema
from harborguard.cli.terminal import Commands
from harborguard.config import Config
from harborguard.observability.logs import configure_logging


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="harborguard")
def main() -> None:
    """Looks after HarborGuard's inventory of container images.

    Works on the database that DATABASE_URL names; where none is set, on the private one of this
    checkout, which is started for the length of the command unless `make run` is serving from it.
    ORG is an organization's id or its name.
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
    registries.registry,
):
    main.add_command(command)
