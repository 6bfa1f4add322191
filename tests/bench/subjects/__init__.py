"""The subjects that run.py measures, one module for each."""
