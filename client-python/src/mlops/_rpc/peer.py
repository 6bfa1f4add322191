"""Checks which user runs a local server.

Another user's server sees all data that it receives and may return anything.
"""

import os
import pwd
import socket
import struct
from contextlib import suppress

from mlops._rpc import errors
from mlops._rpc.errors import WorkspaceError

TRUSTED_USERS_VARIABLE = "MLOPS_WORKSPACE_TRUSTED_USERS"
_CREDENTIALS = struct.Struct("3i")  # SO_PEERCRED: pid, uid, gid.


def connect(path: str) -> int:
    """Connect to a Unix socket, close it, and return the uid of the listening process.

    Raises:
        OSError: Nothing listens on the socket, or this user may not connect to it.
    """
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(path)
        credentials = probe.getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
        )
    return int(_CREDENTIALS.unpack(credentials)[1])


def is_trusted(user: int) -> bool:
    """Return whether this process may use a server of `user`.

    Trusted are this process's user, root, and the users in
    MLOPS_WORKSPACE_TRUSTED_USERS.
    """
    trusted = os.environ.get(TRUSTED_USERS_VARIABLE, "")
    return user in (os.geteuid(), 0) or any(
        _means(name.strip(), user) for name in trusted.split(",")
    )


def untrusted(base: str, user: int) -> WorkspaceError:
    """Return the error for a base that is served by a user who is not trusted."""
    name = _name_of(user)
    return errors.unavailable(
        f"{base} is served by another user, {name}, "
        "who would see all that is written and may answer anything: "
        "use a base directory of your own, "
        f"or set {TRUSTED_USERS_VARIABLE}={name} if you trust that user",
        base_path=base,
        user=name,
    )


def _means(name: str, user: int) -> bool:
    if name == "*" or name == str(user):
        return True
    with suppress(KeyError):
        return bool(name) and pwd.getpwnam(name).pw_uid == user
    return False


def _name_of(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
