"""Refuse connections to anywhere but this machine."""

import ipaddress
import socket


class NetworkBlocked(OSError):
    """Raised instead of leaving this machine."""


def is_local(address: object) -> bool:
    """Whether a socket address stays on this machine."""
    if not isinstance(address, tuple):
        return True  # AF_UNIX, AF_NETLINK
    try:
        return str(address[0]) in ("", "localhost") or ipaddress.ip_address(str(address[0])).is_loopback
    except ValueError:
        return False


def block() -> None:
    """Guard every way out: connecting, sending, and looking up names."""
    for name in ("connect", "connect_ex", "sendto"):
        setattr(socket.socket, name, _guard(getattr(socket.socket, name)))
    lookup = socket.getaddrinfo

    def getaddrinfo(host, *rest, **options):
        if host not in (None, "", socket.gethostname()) and not is_local((host,)):
            raise NetworkBlocked(f"the tests may not look up {host}")
        return lookup(host, *rest, **options)

    socket.getaddrinfo = getaddrinfo


def _guard(method):
    def guarded(self, *arguments):
        if not is_local(arguments[-1]):
            raise NetworkBlocked(f"the tests may not connect to {arguments[-1]}")
        return method(self, *arguments)

    return guarded
