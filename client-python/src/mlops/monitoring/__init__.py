"""How data changes."""
