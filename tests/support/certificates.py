"""Certificates for tests, made by the openssl command."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Identity:
    """The PEM files of a certificate and its private key."""

    cert: Path
    key: Path


class Authority:
    """Issues certificates into `directory`, which also has its own in `cert`."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory = directory
        self._own = self._make(name, "-addext", "basicConstraints=critical,CA:TRUE")
        self.cert = self._own.cert

    def issue(
        self, name: str, *, names: str = "DNS:localhost,IP:127.0.0.1"
    ) -> Identity:
        """Issues a certificate for one day with the common name `name`.

        Args:
            name: Also the name of the files; existing ones are replaced.
            names: The alternative names, as OpenSSL spells them.
        """
        return self._make(
            name,
            *("-CA", str(self._own.cert), "-CAkey", str(self._own.key)),
            *("-addext", f"subjectAltName={names}"),
        )

    def _make(self, name: str, *options: str) -> Identity:
        made = Identity(
            self._directory / f"{name}.pem", self._directory / f"{name}.key"
        )
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-nodes", "-days", "1"),
                *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
                *("-subj", f"/CN={name}", "-keyout", made.key, "-out", made.cert),
                *options,
            ],
            check=True,
            capture_output=True,
        )
        return made
