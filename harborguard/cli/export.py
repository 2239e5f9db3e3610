"""Command that writes all images of an organization to a file."""

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import click

from harborguard.cli.database import open_database
from harborguard.cli.terminal import count, org_option, print_message
from harborguard.listing import Page
from harborguard.model import Scope
from harborguard.store import organizations
from harborguard.store.images.export import ExportFormat, build_export, copy_out
from harborguard.store.images.list import list_images

_STANDARD_OUTPUT = Path("-")


@click.command()
@click.argument(
    "path", metavar="FILE", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path)
)
@org_option
@click.option(
    "--format",
    "export_format",
    type=click.Choice([each.value for each in ExportFormat]),
    default=ExportFormat.CSV.value,
    show_default=True,
)
@click.option(
    "--query",
    default="",
    metavar="QUERY",
    help="Filters and order, as in GET /api/images: 'grade=C,D&sort=name:asc'. Default: all.",
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
def export(path: Path, organization: str, *, export_format: str, query: str, force: bool) -> None:
    """Write the images of an organization to FILE, or to standard output if it is `-`.

    The file is one snapshot. It appears under its name only when it is complete.
    """
    # Loading the API would add a third to the start of every other command.
    from harborguard.api.queries import ExportImagesQuery, parse_query_text  # noqa: PLC0415

    text = f"format={export_format}&{query}"
    criteria, parsed_format = parse_query_text(ExportImagesQuery(), text)
    if path != _STANDARD_OUTPUT and path.exists() and not force:
        raise click.UsageError(f"{path} exists; replace it with --force")
    if path.exists() and not path.is_file():
        raise click.UsageError(f"{path} is not a regular file; use - for standard output")
    with open_database() as conn:
        scope = Scope(organizations.get_organization(conn, organization))
        total = list_images(conn, scope, criteria, Page(1, 1)).total
        with _open_output(path) as output:
            blocks = copy_out(conn, *build_export(scope, criteria, parsed_format))
            lines = _write(blocks, output, total)
    images = lines - (parsed_format is ExportFormat.CSV)
    print_message(f"exported {count(images, 'image')}")


def _write(blocks: Iterator[bytes], output: BinaryIO, total: int) -> int:
    """Write the blocks, with a progress bar on a terminal; return the number of lines."""
    lines, is_terminal = 0, sys.stderr.isatty()
    with click.progressbar(
        length=total, label="exporting images", file=sys.stderr, hidden=not is_terminal
    ) as bar:
        for block in blocks:
            output.write(block)
            lines += block.count(b"\n")
            bar.update(block.count(b"\n"))
    return lines


@contextmanager
def _open_output(path: Path) -> Iterator[BinaryIO]:
    """Yield the file to write: standard output, or one that is renamed when it is complete."""
    if path == _STANDARD_OUTPUT:
        yield sys.stdout.buffer
        return
    target = path.resolve()  # a link stays a link
    partial = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
    try:
        with partial.open("xb") as output:
            yield output
            output.flush()
            os.fsync(output.fileno())
        partial.replace(target)
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            partial.unlink()
