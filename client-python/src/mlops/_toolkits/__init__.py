"""Code that the adapters of MLflow, DVC, BentoML and Evidently share.

Private. Users import `MLOpsClientError` from `mlops.client`.
"""
