"""What POST /api/scans/upload reads, as far as a schema can say it; for the OpenAPI document.

It is no stricter than harborguard.reports, which decides.
"""

from typing import Any

from harborguard.model import ScanStatus

_NAME: dict[str, Any] = {"type": "string", "maxLength": 1000, "pattern": r"^[^\u0000]*$"}
_REQUIRED_NAME: dict[str, Any] = {**_NAME, "minLength": 1}
_REFERENCE: dict[str, Any] = {
    "type": "string",
    "description": "Image and tag; may be absent where ?image= names them.",
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
    "title": "The HarborGuard sensor's envelope 1.0",
    "type": "object",
    "required": ["version", "scan", "findings"],
    "properties": {
        "version": {"const": "1.0"},
        "image": {
            "type": ["object", "null"],
            "properties": {
                "ref": {**_REFERENCE, "type": ["string", "null"]},
                "digest": {"description": "The manifest digest; malformed is as untold."},
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
    "title": "Trivy JSON, schema 2",
    "type": "object",
    "required": ["SchemaVersion"],
    "properties": {
        "SchemaVersion": {"const": 2},
        "ArtifactName": {"type": "string"},
        "Results": {"type": ["array", "null"], "items": {"type": "object"}},
    },
}
GRYPE: dict[str, Any] = {
    "title": "Grype JSON",
    "type": "object",
    "required": ["matches"],
    "properties": {"matches": {"type": "array", "items": {"type": "object"}}},
}
TRIVY_LIST: dict[str, Any] = {
    "title": "Trivy's old bare list; needs ?image=",
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
