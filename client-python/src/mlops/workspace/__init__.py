"""Workspaces of MLOps projects."""
