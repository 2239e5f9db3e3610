"""The IP addresses to which a registry and its redirects may lead the client."""

import threading
from enum import IntEnum
from ipaddress import IPv6Address, ip_address, ip_network

from harborguard.errors import RegistryError


class AddressScope(IntEnum):
    """The networks from which an address is reachable, in ascending order."""

    SPECIAL = 0  # link-local and cloud metadata services, multicast, unspecified, reserved
    LOOPBACK = 1
    PRIVATE = 2
    PUBLIC = 3


_PRIVATE_NETWORKS = [
    ip_network(network)
    for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
]
# All public IPv6 addresses are in this range. Outside of it are NAT64 and IPv4-compatible
# addresses, which embed an arbitrary IPv4 address, site-local ones, and segment identifiers.
_GLOBAL_UNICAST = ip_network("2000::/3")
# Protocol assignments with Teredo, 6to4 and its relays, documentation. The ipaddress module
# considers some of them global, depending on the version of Python. The single addresses are
# metadata services of clouds that are not link-local: Alibaba's, Azure's, AWS's and Google's.
_SPECIAL_NETWORKS = [
    ip_network(network)
    for network in (
        *("192.0.0.0/24", "192.88.99.0/24"),
        *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
        *("100.100.100.200/32", "168.63.129.16/32", "fd00:ec2::254/128", "fd20:ce::254/128"),
    )
]


def address_scope(address: str) -> AddressScope:
    """Return the scope of an IPv4 or IPv6 address (RFC 6890). Raise ValueError if malformed."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    if ip.is_loopback:
        return AddressScope.LOOPBACK
    if any(ip in network for network in _SPECIAL_NETWORKS):
        return AddressScope.SPECIAL
    if any(ip in network for network in _PRIVATE_NETWORKS):
        return AddressScope.PRIVATE
    is_outside = isinstance(ip, IPv6Address) and ip not in _GLOBAL_UNICAST
    if is_outside or ip.is_multicast or not ip.is_global:
        return AddressScope.SPECIAL
    return AddressScope.PUBLIC


class RedirectPolicy:
    """Reject addresses that are less public than the one of the first contact with the registry.

    The first connection to the registry decides its scope. Until the end of the sync, its name
    leads to addresses of the same scope only, so a change of its DNS records reaches nothing else.

    A public registry may refer to public addresses only, a private one to public and private
    addresses, one on loopback also to loopback. A registry at a special address may refer to public
    addresses only. References to special addresses are always rejected.
    """

    def __init__(self, registry_host: str) -> None:
        self._registry_host = registry_host
        self._registry_scope: AddressScope | None = None
        self._lock = threading.Lock()

    def allowed(self, host: str, addresses: list[str]) -> list[str]:
        """Return the addresses of `host` to which the client may connect.

        Raise RegistryError if the policy forbids all of the registry's own addresses, or one of
        another host's addresses.
        """
        scope = self._registry_scope
        if host == self._registry_host:
            same = [address for address in addresses if scope in {None, address_scope(address)}]
            if not same:
                raise _changed(host, addresses[0])
            return same
        minimum = scope or AddressScope.PUBLIC
        for address in addresses:
            if address_scope(address) < minimum:
                raise RegistryError(
                    f"the registry refers to {host}, but its address {address} is not allowed"
                )
        return addresses

    def note_connection(self, host: str, address: str) -> None:
        """Set the registry's scope at its first connection; raise RegistryError if it differs now.

        It can differ if two threads make the first connection at the same time.
        """
        if host != self._registry_host:
            return
        scope = address_scope(address)
        with self._lock:
            if self._registry_scope is None:
                self._registry_scope = scope
        if self._registry_scope is not scope:
            raise _changed(host, address)


def _changed(host: str, address: str) -> RegistryError:
    return RegistryError(
        f"the address of {host} changed during the sync to {address}, which is not allowed"
    )
