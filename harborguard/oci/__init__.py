"""Client for container registries (OCI distribution specification 1.1).

Only this package contacts registries, and only for `harborguard registry sync`.
"""

from harborguard.oci.auth import Credentials
from harborguard.oci.client import RegistryClient
from harborguard.oci.connections import Limits

__all__ = ["Credentials", "Limits", "RegistryClient"]
