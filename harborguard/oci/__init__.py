"""A registry's client: what the OCI distribution specification (1.1) lets a reader ask.

The only part of the service that calls another host, and that only for `harborguard registry sync`.
"""

from harborguard.oci.auth import Credentials
from harborguard.oci.client import RegistryClient
from harborguard.oci.connections import Limits

__all__ = ["Credentials", "Limits", "RegistryClient"]
