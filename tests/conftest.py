"""What all Python tests need."""

import signal

# A shell starts background jobs, such as `make test &`, with this signal ignored, and
# the programs under test would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
