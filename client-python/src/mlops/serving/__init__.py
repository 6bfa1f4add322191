"""Models ready to be served."""
