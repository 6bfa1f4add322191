"""The transport: channels, connections, errors and value conversion."""

import os
import sys

# gRPC supports forked processes only if this variable is set before it is loaded.
# Without it, calls in a forked process never return.
if "grpc" not in sys.modules:
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "1")
    # Without this, gRPC writes a line to standard error about every server that exits.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
WORKS_AFTER_FORK = os.environ.get("GRPC_ENABLE_FORK_SUPPORT", "0").lower() in {
    "1",
    "true",
    "yes",
    "on",
    "y",
    "t",
}
