"""The IP addresses to which a registry may redirect the client."""

import threading
from enum import IntEnum
from ipaddress import IPv6Address, ip_address, ip_network

from harborguard.errors import RegistryError


class AddressScope(IntEnum):
    """The networks from which an address is reachable, in ascending order."""

    SPECIAL = 0  # link-local (cloud metadata services), multicast, unspecified, reserved
    LOOPBACK = 1
    PRIVATE = 2
    PUBLIC = 3


_PRIVATE_NETWORKS = [
    ip_network(network)
    for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
]
# NAT64, 6to4 and Teredo: these IPv6 addresses embed an arbitrary IPv4 address.
_TRANSLATED_NETWORKS = [
    ip_network(network) for network in ("64:ff9b::/96", "2002::/16", "2001::/32")
]


def address_scope(address: str) -> AddressScope:
    """Return the scope of an IPv4 or IPv6 address (RFC 6890). Raise ValueError if malformed."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    if ip.is_loopback:
        return AddressScope.LOOPBACK
    if any(ip in network for network in _PRIVATE_NETWORKS):
        return AddressScope.PRIVATE
    is_translated = any(ip in network for network in _TRANSLATED_NETWORKS)
    if is_translated or ip.is_multicast or not ip.is_global:
        return AddressScope.SPECIAL
    return AddressScope.PUBLIC


class RedirectPolicy:
    """Reject redirects to addresses that are less public than the registry's own address.

    A public registry may redirect to public addresses only, a private one to public and private
    addresses, one on loopback also to loopback. Redirects to special addresses are always rejected.

    Each connection to the registry records the scope of its address. The most public scope applies,
    so a change of the registry's DNS records during a sync cannot permit more redirects.
    """

    def __init__(self, registry_host: str) -> None:
        self._registry_host = registry_host
        self._registry_scope = AddressScope.SPECIAL
        self._lock = threading.Lock()

    def check(self, host: str, address: str) -> None:
        """Raise RegistryError if the policy forbids connecting to `host` at `address`."""
        scope = address_scope(address)
        if host == self._registry_host:
            with self._lock:
                self._registry_scope = max(self._registry_scope, scope)
        elif scope is AddressScope.SPECIAL or scope < self._registry_scope:
            raise RegistryError(
                f"the registry refers to {host}, but its address {address} is not allowed"
            )
