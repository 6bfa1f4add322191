"""Data drift monitoring."""
