"""Two organizations with users, credentials and images, so that tests cover tenant isolation."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from harborguard.auth.credentials import make_secret
from harborguard.model import Actor, PrincipalKind, Role
from harborguard.risk import grade
from harborguard.store import organizations, principals
from harborguard.store.connection import Connection
from harborguard.store.counters import ChangedImage, change_counters
from harborguard.store.registries import ensure_registry

CREATED_AT = datetime(2025, 12, 4, tzinfo=UTC)
# The actor of the set-up.
OPERATOR = Actor("cli:operator")
SCANNED_AT = datetime(2026, 4, 26, 14, 22, 11, tzinfo=UTC)


@dataclass
class Tenant:
    """An organization with a user of role developer and an API key of role viewer."""

    conn: Connection
    organization_id: str
    email: str
    user_id: str
    key_id: str
    key: str
    token_id: str
    token: str

    @property
    def headers(self) -> dict[str, str]:
        """Return request headers with the organization's API key."""
        return {"X-API-Key": self.key}

    def add_key(self, role: Role = Role.VIEWER, **kwargs: Any) -> str:
        """Create another API key and return its secret."""
        return add_key(self.conn, self.organization_id, role, **kwargs)[1]

    def add_registry(self, host: str, name: str | None = None) -> str:
        """Create a registry and return its id."""
        registry_id = ensure_registry(self.conn, self.organization_id, host)
        if name is not None:
            self.conn.execute(
                "UPDATE registries SET name = %s WHERE organization_id = %s AND id = %s",
                (name, self.organization_id, registry_id),
            )
        return registry_id

    def add_findings(self, image_id: str, findings: Sequence[tuple[str, str, str | None]]) -> None:
        """Add the findings that an image's counts include: id, package and fixed version."""
        key = (self.organization_id, image_id)
        [(set_id,)] = self.conn.execute(
            "INSERT INTO finding_sets (organization_id, image_id, sha256)"
            " VALUES (%s, %s, sha256('')) RETURNING id",
            key,
        ).fetchall()
        for position, (identity, package, fixed_version) in enumerate(findings):
            self.conn.execute(
                "INSERT INTO findings (organization_id, set_id, position, vulnerability_id,"
                " package, installed_version, fixed_version, severity, sources)"
                " VALUES (%s, %s, %s, %s, %s, '1', %s, 'LOW', '{trivy}')",
                (key[0], set_id, position, identity, package, fixed_version),
            )
        self.conn.execute(
            "UPDATE images SET set_id = %s WHERE organization_id = %s AND id = %s", (set_id, *key)
        )

    def add_tag(self, image_id: str, name: str) -> None:
        """Add a tag to an image, without changing the image's row."""
        self.conn.execute(
            "INSERT INTO tags (organization_id, image_id, name, is_confirmed, is_synced,"
            " first_observed_at, last_observed_at) VALUES (%s, %s, %s, true, false, now(), now())",
            (self.organization_id, image_id, name),
        )

    def add_image(
        self,
        name: str,
        score: int | None = None,
        *,
        created_at: datetime = CREATED_AT,
        **columns: Any,
    ) -> str:
        """Create an image as an ingested scan would, and return its id."""
        row = {
            "organization_id": self.organization_id,
            "registry_id": self.add_registry(name.partition("/")[0]),
            "name": name,
            "created_at": created_at,
        }
        if score is not None:
            row |= {
                "risk_score": score,
                "grade": grade(score).value,
                "scan_id": "scan-0",
                "last_scanned_at": SCANNED_AT,
            }
        row |= columns
        names = ", ".join(row)
        values = ", ".join(f"%({column})s" for column in row)
        query = f"INSERT INTO images ({names}) VALUES ({values})"
        [image_id] = self.conn.execute(with_names(query).encode(), row).fetchone() or [""]
        changes = {(str(row["registry_id"]), score): 1}
        changed = [ChangedImage(image_id, str(row["registry_id"]))]
        change_counters(self.conn, self.organization_id, changes, images=1, changed=changed)
        return image_id


def with_names(insert_images: str) -> str:
    """Return an INSERT of images that inserts their names too; it returns the ids."""
    return f"""
WITH image AS ({insert_images}
    RETURNING organization_id, id, name, registry_id
),
image_name AS (
    INSERT INTO image_names (organization_id, name, registry_id)
    SELECT organization_id, name, registry_id
    FROM image
)
SELECT id
FROM image
"""


def add_key(
    conn: Connection, organization_id: str, role: Role = Role.VIEWER, **kwargs: Any
) -> tuple[str, str]:
    """Create an API key and return its id and secret."""
    secret = make_secret(PrincipalKind.API_KEY)
    key_id = principals.create_api_key(
        conn, organization_id, secret, actor=OPERATOR, name="test", role=role, **kwargs
    )
    return key_id, secret.secret


def add_tenant(conn: Connection, name: str) -> Tenant:
    """Create an organization with a user, an API key and an access token."""
    organization_id = organizations.create_organization(conn, name, actor=OPERATOR)
    email = f"dev@{name}.test"
    user_id = organizations.add_user(conn, organization_id, email, Role.DEVELOPER, actor=OPERATOR)
    key_id, key = add_key(conn, organization_id)
    secret = make_secret(PrincipalKind.ACCESS_TOKEN)
    token_id = principals.create_access_token(
        conn, secret, actor=OPERATOR, name="test", email=email, expires_at=None
    )
    return Tenant(conn, organization_id, email, user_id, key_id, key, token_id, secret.secret)


class Tenants:
    """Acme, the organization under test, and Globex, whose data Acme must not see."""

    def __init__(self, conn: Connection) -> None:
        self.acme = add_tenant(conn, "acme")
        self.globex = add_tenant(conn, "globex")
