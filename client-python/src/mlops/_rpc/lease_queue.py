"""Waits for a lease that another holder has."""

import random
import time
from contextlib import closing

from mlops._rpc.connection import Connection
from mlops._rpc.errors import WorkspaceError
from mlops._rpc.watch import Watch

_PAUSE_S = 1.0


def wait_until_free(
    connection: Connection, project: str, refusal: WorkspaceError, limit_s: float
) -> None:
    """Return when the lease may be free, or after `limit_s`.

    The server reports when the lease ends. `refusal` is the LEASE_HELD error; it says
    when the lease expires, for servers that cannot be watched.
    """
    deadline = time.monotonic() + limit_s
    try:
        with closing(Watch(connection, [project])) as watch:
            for response in watch.until(deadline):
                seen = response.workspace
                if seen.project == project and not seen.HasField("lease"):
                    return
    except WorkspaceError:
        # The server is old, has too many watchers, or is gone: the next attempt to
        # acquire the lease reports that.
        _sleep(refusal, deadline - time.monotonic())


def _sleep(refusal: WorkspaceError, limit_s: float) -> None:
    expiry_s = refusal.retry_delay_s if refusal.retry_delay_s is not None else _PAUSE_S
    # The holder may release the lease at any time before it expires. Jitter prevents
    # all waiting clients from retrying at the same moment.
    pause_s = min(expiry_s, _PAUSE_S * random.uniform(0.5, 1.0))
    time.sleep(max(0.0, min(pause_s, limit_s)))
