"""Who serves at the other end: a server of another user may answer anything, and sees
all that it is given.
"""

import os
import pwd
import socket
import struct
from contextlib import suppress

from mlops._rpc import errors
from mlops._rpc.errors import WorkspaceError

TRUSTED_USERS_VARIABLE = "MLOPS_WORKSPACE_TRUSTED_USERS"
_CREDENTIALS = struct.Struct("3i")  # Of SO_PEERCRED: pid, uid, gid.


def connect(path: str) -> int:
    """Connects to a Unix socket for a moment; returns the user id of the process that
    listens there.

    Raises OSError if nobody listens there, or if this user may not connect.
    """
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(path)
        credentials = probe.getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
        )
    return int(_CREDENTIALS.unpack(credentials)[1])


def is_trusted(user: int) -> bool:
    """Whether this process may use a server of the user: its own, root's, and those
    that it was told to trust.
    """
    trusted = os.environ.get(TRUSTED_USERS_VARIABLE, "")
    return user in (os.geteuid(), 0) or any(
        _means(name.strip(), user) for name in trusted.split(",")
    )


def untrusted(base: str, user: int) -> WorkspaceError:
    """The base is served by a user whom nobody said to trust."""
    name = _name_of(user)
    return errors.unavailable(
        f"{base} is served by another user, {name}, who would see all that is written and may answer anything: "
        f"use a base directory of your own, or set {TRUSTED_USERS_VARIABLE}={name} if you trust that user",
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
