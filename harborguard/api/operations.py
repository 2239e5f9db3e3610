"""Every route as the OpenAPI document tells it: what it takes, what it answers, who may."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from marshmallow import Schema

from harborguard.api import answers, detail_schemas, reports_schema, schemas

Headers = Mapping[str, str]


@dataclass(frozen=True)
class Operation:
    """One method of one path; `answers` are its own statuses, `errors` those in the envelope."""

    path: str
    summary: str
    answers: Mapping[int, type[Schema] | str | None]
    errors: Sequence[int] = ()
    method: str = "get"
    query: type[Schema] | None = None
    role: str | None = None
    security: Sequence[str] = ("apiKey", "bearer", "session")
    request_headers: Headers = field(default_factory=dict)
    answer_headers: Headers = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    example: Mapping[str, Any] | None = None


_GUARDED = (400, 401, 403, 500, 503, 504)
_IMAGE_PAGE = answers.page_of(answers.Image)
_VALIDATOR = "The list's version, as If-None-Match takes it."

OPERATIONS = (
    Operation(
        path="/api/images",
        summary="List images: one row is a registry and a name, whatever tag and scan.",
        query=schemas.ListImagesQuery,
        answers={200: _IMAGE_PAGE, 304: None},
        errors=_GUARDED,
        role="viewer",
        request_headers={"If-None-Match": "Answers 304 where the list is still of this version."},
        answer_headers={"ETag": _VALIDATOR},
    ),
    Operation(
        path="/api/images/summary",
        summary="Count the images that match, by grade and by registry.",
        query=detail_schemas.SummarizeImagesQuery,
        answers={200: answers.single(answers.Summary)},
        errors=_GUARDED,
        role="viewer",
    ),
    Operation(
        path="/api/images/{image_id}",
        summary="One image, with its registry and its last scan.",
        answers={200: answers.single(answers.ImageDetails)},
        errors=(401, 403, 404, 500, 503, 504),
        role="viewer",
    ),
    Operation(
        path="/api/images/{image_id}/tags",
        summary="An image's tags, newest first.",
        query=detail_schemas.ListTagsQuery,
        answers={200: answers.page_of(answers.Tag)},
        errors=(*_GUARDED, 404),
        role="viewer",
    ),
    Operation(
        path="/api/images/{image_id}/vulnerabilities",
        summary="The findings behind an image's counts, worst first.",
        query=detail_schemas.ListFindingsQuery,
        answers={200: answers.page_of(answers.Vulnerability)},
        errors=(*_GUARDED, 404),
        role="viewer",
    ),
    Operation(
        path="/api/scans/upload",
        method="post",
        summary="Record a scanner's report, plain or gzip; a replay is 200 and changes nothing.",
        query=schemas.UploadScanQuery,
        body=reports_schema.REPORT,
        example=reports_schema.EXAMPLE,
        answers={201: answers.Uploaded, 200: answers.Uploaded},
        errors=(*_GUARDED, 409, 413, 415, 429),
        role="ci",
        security=("apiKey", "bearer"),
    ),
    Operation(
        path="/api/health",
        summary="The process answers.",
        answers={200: answers.single(answers.Status)},
        security=(),
    ),
    Operation(
        path="/api/ready",
        summary="The database answers and has the schema that is needed.",
        answers={200: answers.single(answers.Status)},
        errors=(500, 503, 504),
        security=(),
    ),
    Operation(
        path="/api/openapi.json",
        summary="This document.",
        answers={200: "application/json"},
        security=(),
    ),
    Operation(
        path="/api/docs",
        summary="A page that shows this document and can ask the service.",
        answers={200: "text/html"},
        errors=(404,),
        security=(),
    ),
    Operation(
        path="/api/docs/{name}",
        summary="The files of that page.",
        answers={200: "*/*"},
        errors=(404,),
        security=(),
    ),
)
