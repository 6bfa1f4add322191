"""How calls are made: channels, connections, errors, values."""

import os
import sys

# gRPC works in forked processes only if it is told so before it is loaded; else calls
# there never return.
if "grpc" not in sys.modules:
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "1")
    # Else it tells standard error about every server that leaves.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
WORKS_AFTER_FORK = os.environ.get("GRPC_ENABLE_FORK_SUPPORT", "0").lower() in {
    "1",
    "true",
    "yes",
    "on",
    "y",
    "t",
}
