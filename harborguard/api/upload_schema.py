"""The JSON schema of the body of POST /api/scans/upload, for the OpenAPI document.

It accepts every report that harborguard.reports accepts. Some rules of the parsers are not in it.
"""

from typing import Any

from harborguard.model import ScanStatus

_NAME: dict[str, Any] = {"type": "string", "maxLength": 1000, "pattern": r"^[^\u0000]*$"}
_REQUIRED_NAME: dict[str, Any] = {**_NAME, "minLength": 1}
_REFERENCE: dict[str, Any] = {
    "type": "string",
    "description": "The image's reference. Optional if the query has `image`.",
    "examples": ["ghcr.io/acme/api:1.4.7"],
}
_VULNERABILITY: dict[str, Any] = {
    "type": "object",
    "required": ["cveId", "severity", "packageName"],
    "properties": {
        "cveId": _REQUIRED_NAME,
        "severity": {"type": "string", "maxLength": 1000},
        "packageName": _NAME,
        "source": {**_NAME, "type": ["string", "null"]},
        "cvssScore": {"type": ["number", "null"]},
        "installedVersion": {**_NAME, "type": ["string", "null"]},
        "fixedVersion": {**_NAME, "type": ["string", "null"]},
        "title": {"type": ["string", "null"], "maxLength": 65536, "pattern": r"^[^\u0000]*$"},
        "vulnerabilityUrl": {"type": ["string", "null"], "maxLength": 65536},
    },
}
ENVELOPE: dict[str, Any] = {
    "title": "Sensor envelope",
    "description": "The envelope of the HarborGuard sensor, version 1.0.",
    "type": "object",
    "required": ["version", "scan", "findings"],
    "properties": {
        "version": {"const": "1.0"},
        "image": {
            "type": ["object", "null"],
            "properties": {
                "ref": {**_REFERENCE, "type": ["string", "null"]},
                "digest": {"description": "The manifest digest. A malformed one is ignored."},
            },
        },
        "scan": {
            "type": "object",
            "required": ["id", "finishedAt", "status"],
            "properties": {
                "id": {**_REQUIRED_NAME, "maxLength": 200},
                "startedAt": {"type": ["string", "null"], "format": "date-time"},
                "finishedAt": {"type": "string", "format": "date-time"},
                "status": {"enum": [status.value for status in ScanStatus]},
            },
        },
        "findings": {
            "type": "object",
            "required": ["vulnerabilities"],
            "properties": {"vulnerabilities": {"type": ["array", "null"], "items": _VULNERABILITY}},
        },
    },
}
TRIVY: dict[str, Any] = {
    "title": "Trivy report",
    "description": "Trivy JSON, schema version 2.",
    "type": "object",
    "required": ["SchemaVersion"],
    "properties": {
        "SchemaVersion": {"const": 2},
        "ArtifactName": {"type": "string"},
        "Results": {"type": ["array", "null"], "items": {"type": "object"}},
    },
}
GRYPE: dict[str, Any] = {
    "title": "Grype report",
    "description": "Grype JSON.",
    "type": "object",
    "required": ["matches"],
    "properties": {"matches": {"type": "array", "items": {"type": "object"}}},
}
TRIVY_LIST: dict[str, Any] = {
    "title": "Trivy list",
    "description": "The bare list of old Trivy versions. The query must have `image`.",
    "type": "array",
    "items": {"type": "object"},
}
REPORT: dict[str, Any] = {"anyOf": [ENVELOPE, TRIVY, GRYPE, TRIVY_LIST]}
EXAMPLE: dict[str, Any] = {
    "version": "1.0",
    "image": {"ref": "ghcr.io/acme/api:1.4.7"},
    "scan": {
        "id": "b7c1e0f2-nightly",
        "finishedAt": "2026-04-26T14:22:11Z",
        "status": "SUCCESS",
    },
    "findings": {
        "vulnerabilities": [
            {
                "cveId": "CVE-2026-1000",
                "source": "trivy",
                "severity": "HIGH",
                "cvssScore": 7.5,
                "packageName": "openssl",
                "installedVersion": "3.0.1",
                "fixedVersion": "3.0.2",
            }
        ]
    },
}
