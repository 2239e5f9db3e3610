"""Where a registry may send its caller: never further in than where it lies itself."""

from enum import IntEnum
from ipaddress import IPv6Address, ip_address, ip_network

from harborguard.errors import RegistryError


class AddressScope(IntEnum):
    """From how far away an address can be reached, the nearest first."""

    NOWHERE = 0  # link-local (a cloud's metadata), multicast, unspecified, reserved
    LOOPBACK = 1
    PRIVATE = 2
    PUBLIC = 3


_PRIVATE = [
    ip_network(network)
    for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
]
# An IPv6 address that stands for an IPv4 one, which could be any: NAT64, 6to4, Teredo.
_TRANSLATED = [ip_network(network) for network in ("64:ff9b::/96", "2002::/16", "2001::/32")]


def address_scope(address: str) -> AddressScope:
    """The reach of an IPv4 or IPv6 address (RFC 6890); ValueError for what is none."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    if ip.is_loopback:
        return AddressScope.LOOPBACK
    if any(ip in network for network in _PRIVATE):
        return AddressScope.PRIVATE
    if any(ip in network for network in _TRANSLATED) or ip.is_multicast or not ip.is_global:
        return AddressScope.NOWHERE
    return AddressScope.PUBLIC


class RedirectPolicy:
    """Keeps a registry from sending its caller further in than where it lies itself.

    A registry's own addresses are learnt as they are used; the outermost counts, so that one that
    changes its address between two calls gains nothing.
    """

    def __init__(self, home: str) -> None:
        self._home = home
        self._reach = AddressScope.NOWHERE

    def check(self, host: str, address: str) -> None:
        """Raises RegistryError where `host`, found at `address`, must not be called."""
        found = address_scope(address)
        if host == self._home:
            self._reach = max(self._reach, found)
        elif found < self._reach:
            raise RegistryError(f"it sends to {host}, which is at the internal address {address}")
