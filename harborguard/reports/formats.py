"""The table of report formats.

A new format is one file with its parser and its schema, one row in `FORMATS`, and the name of its
scanner in `observability.metrics`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from msgspec import Raw

from harborguard.model import Reference, Report
from harborguard.reports import envelope, grype, trivy
from harborguard.reports.image_metadata import IMAGE_OPTIONS


class Version(NamedTuple):
    """The top-level field that contains a format's version, and the supported value as JSON."""

    field: str
    value: str


@dataclass(frozen=True, slots=True)
class ReportFormat:
    """A report format: how to recognize it, how to parse it and how to document it.

    `identifying_fields` is a tuple of field sets; an object with all fields of one set has this
    format. If it is None, the format is a JSON array. `parse` takes the body and the image that the
    caller names. `schema` is the JSON schema for the OpenAPI document; it may accept more than the
    parser, never less. `requirement` is what the caller must add to a report that does not name its
    image.
    """

    name: str
    identifying_fields: tuple[tuple[str, ...], ...] | None
    version: Version | None
    parse: Callable[[bytes, Reference | None], Report]
    schema: dict[str, Any]
    requirement: str | None = None

    @property
    def is_array(self) -> bool:
        """Whether the format is a JSON array."""
        return self.identifying_fields is None

    @property
    def field_names(self) -> set[str]:
        """The top-level fields that recognition reads."""
        identifying = {name for names in self.identifying_fields or () for name in names}
        return identifying | ({self.version.field} if self.version else set())

    @property
    def description(self) -> str:
        """The format's name and requirement, for error messages."""
        return f"{self.name} (requires {self.requirement})" if self.requirement else self.name

    def matches(self, fields: Mapping[str, Raw]) -> bool:
        """Return whether an object with these fields is in this format; true for an array."""
        return self.identifying_fields is None or any(
            all(fields[name] for name in names) for names in self.identifying_fields
        )


FORMATS = (
    ReportFormat(
        name="HarborGuard sensor envelope 1.0",
        # Other formats also have a version and a scan, such as GitLab's.
        identifying_fields=(
            ("scan", "findings"),
            ("version", "image", "scan"),
            ("version", "image", "findings"),
        ),
        version=Version("version", '"1.0"'),
        parse=envelope.parse_envelope,
        schema=envelope.SCHEMA,
    ),
    ReportFormat(
        name="Trivy JSON (schema 2)",
        identifying_fields=(("SchemaVersion",), ("ArtifactName",)),
        version=Version("SchemaVersion", "2"),
        parse=trivy.parse_trivy,
        schema=trivy.SCHEMA,
    ),
    ReportFormat(
        name="Grype JSON",
        identifying_fields=(("matches",),),
        version=None,
        parse=grype.parse_grype,
        schema=grype.SCHEMA,
    ),
    ReportFormat(
        name="Trivy result list",
        identifying_fields=None,
        version=None,
        parse=trivy.parse_trivy_results,
        schema=trivy.RESULTS_SCHEMA,
        requirement=IMAGE_OPTIONS,
    ),
)

# The request body of POST /api/scans/upload in the OpenAPI document.
REPORT_SCHEMA: dict[str, Any] = {
    "anyOf": [{"title": each.name, **each.schema} for each in FORMATS],
}
EXAMPLE = envelope.EXAMPLE
