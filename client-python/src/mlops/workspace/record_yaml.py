"""Encodes records as YAML."""

from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """A YAML dumper without anchors and aliases, which the server refuses."""

    def ignore_aliases(self, data: object) -> bool:
        """Return True, so that an object in several places is written out in each."""
        return True


def to_yaml(record: dict[str, Any]) -> bytes:
    """Return the values of a record as YAML, in their order."""
    text: bytes = yaml.dump(
        record, Dumper=_Dumper, sort_keys=False, allow_unicode=True, encoding="utf-8"
    )
    return text
