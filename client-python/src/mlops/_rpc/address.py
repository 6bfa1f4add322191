"""Server addresses: "unix:PATH", or "HOST:PORT" with or without a scheme."""

import ipaddress
import os

from mlops._rpc import errors

_MAX_SOCKET_PATH_BYTES = 107


def check_addresses(name: str, text: str) -> tuple[str, ...]:
    """Split `text` into addresses: a single one, or a comma-separated HOST:PORT list.

    Raises:
        WorkspaceError: FIELD_INVALID for the field `name` if one is malformed.
    """
    # The path of a socket may contain commas.
    if not isinstance(text, str) or text.startswith("unix:") or "," not in text:
        return (check_address(name, text),)
    addresses = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for address in addresses:
        if address.startswith("unix:"):
            raise errors.field_invalid(name, "can list only HOST:PORT, not unix:PATH")
        check_address(name, address)
    return addresses


def check_address(name: str, address: str) -> str:
    """Return `address` if it is "unix:PATH" or "HOST:PORT".

    HOST:PORT may have the prefix "https://" or "http://", which selects whether the
    connection is encrypted.

    Raises:
        WorkspaceError: FIELD_INVALID for the field `name` if it is neither.
    """
    if problem := _problem_of(address):
        raise errors.field_invalid(name, problem)
    return address


def _problem_of(address: object) -> str:
    if not isinstance(address, str):
        return f"must be text, unix:PATH or HOST:PORT, not {type(address).__name__}"
    if address.startswith("unix:"):
        path = os.fsencode(address.removeprefix("unix:"))
        if not path:
            return "has no path after unix:"
        if len(path) > _MAX_SOCKET_PATH_BYTES:
            return (
                "is longer than a Unix socket's path may be, "
                f"{_MAX_SOCKET_PATH_BYTES} bytes"
            )
        return ""
    host, _, port = without_scheme(address).rpartition(":")
    if (
        not host
        or "/" in host
        or not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536)
    ):
        return f"must be unix:PATH or HOST:PORT, not {address:.256}"
    return ""


def without_scheme(address: str) -> str:
    """Return `address` without "https://" or "http://"."""
    return address.removeprefix("https://").removeprefix("http://")


def is_local(address: str) -> bool:
    """Return whether `address` can be reached from this machine only.

    Returns False for names other than localhost, since they may resolve to any machine.
    """
    if address.startswith("unix:"):
        return True
    host = _host_of(address)
    if host.lower() == "localhost":
        return True
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback


def reachable(address: str, host: str) -> str:
    """Return `address` with `host` in place of an unspecified IP address.

    Servers that listen on every address report 0.0.0.0 or [::], which no client can
    use.
    """
    try:
        everywhere = ipaddress.ip_address(_host_of(address)).is_unspecified
    except ValueError:
        return address
    return f"{host}:{address.rpartition(':')[2]}" if everywhere else address


def _host_of(address: str) -> str:
    """Return the host without schemes and without brackets."""
    host = without_scheme(address).rpartition(":")[0]
    for scheme in ("ipv4:", "ipv6:", "dns:"):
        host = host.removeprefix(scheme)
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host
