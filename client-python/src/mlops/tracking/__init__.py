"""What a tracking server is told of our workspaces."""
