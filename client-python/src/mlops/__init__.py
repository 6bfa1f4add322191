"""MLOps toolkits for project workspaces.

This file makes `mlops` a regular package. Python prefers any regular package to a
namespace package, so without this file a working directory that contains `./mlops` (the
parent of the default base directory `./mlops/workspace`) would shadow it.
"""
