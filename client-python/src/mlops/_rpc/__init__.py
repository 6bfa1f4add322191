"""How calls are made: channels, connections, errors, values."""
