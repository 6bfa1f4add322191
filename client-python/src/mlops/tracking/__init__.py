"""Integration with MLflow tracking servers."""
