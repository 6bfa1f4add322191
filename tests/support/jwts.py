"""Signed JSON Web Tokens for tests, made by the openssl command."""

import base64
import hashlib
import hmac
import json
import subprocess
import time
from pathlib import Path
from typing import Any

ISSUER = "https://issuer.example"
AUDIENCE = "workspaces"


def encode(data: bytes | dict[str, Any]) -> str:
    """Returns `data`, or the JSON of an object, in base64url without padding."""
    if isinstance(data, dict):
        data = json.dumps(data).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims(subject: str, **others: Any) -> dict[str, Any]:
    """Returns valid claims for `subject`; those in `others` are added or replaced."""
    return {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": subject,
        "exp": int(time.time()) + 600,
    } | others


def unsigned(header: dict[str, Any], body: dict[str, Any]) -> str:
    """Returns what the signature of a token signs."""
    return f"{encode(header)}.{encode(body)}"


class SigningKey:
    """A private key with the id `name`, whose file is in `directory`.

    `algorithm` is RS256 or ES256.
    """

    def __init__(self, directory: Path, name: str, algorithm: str) -> None:
        self.name, self.algorithm = name, algorithm
        self._file = directory / f"{name}.jwt.key"
        kind = (
            ("RSA", "rsa_keygen_bits:2048")
            if algorithm == "RS256"
            else ("EC", "ec_paramgen_curve:P-256")
        )
        _openssl(
            *("genpkey", "-algorithm", kind[0], "-pkeyopt", kind[1]),
            *("-out", str(self._file)),
        )

    @property
    def public_pem(self) -> bytes:
        return _openssl("pkey", "-in", str(self._file), "-pubout")

    @property
    def jwk(self) -> dict[str, str]:
        """The public key as a member of a JSON Web Key Set."""
        public = {"kid": self.name, "use": "sig", "alg": self.algorithm}
        if self.algorithm == "RS256":
            shown = _openssl("rsa", "-in", str(self._file), "-noout", "-modulus")
            modulus = bytes.fromhex(shown.decode().strip().removeprefix("Modulus="))
            return public | {"kty": "RSA", "n": encode(modulus), "e": "AQAB"}
        der = _openssl("pkey", "-in", str(self._file), "-pubout", "-outform", "DER")
        x, y = der[-64:-32], der[-32:]
        return public | {"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)}

    def sign(self, body: dict[str, Any], **header: Any) -> str:
        """Returns the token with these claims; `header` adds or replaces members."""
        text = unsigned({"alg": self.algorithm, "kid": self.name} | header, body)
        command = ("dgst", "-sha256", "-sign", str(self._file))
        signature = _openssl(*command, given=text.encode())
        if self.algorithm == "ES256":
            signature = _from_der(signature)
        return f"{text}.{encode(signature)}"


def sign_with_secret(secret: bytes, body: dict[str, Any], **header: Any) -> str:
    """Returns a token whose HS256 signature uses `secret`."""
    text = unsigned({"alg": "HS256"} | header, body)
    return f"{text}.{encode(hmac.digest(secret, text.encode(), hashlib.sha256))}"


def write_jwks(file: Path, *keys: SigningKey) -> None:
    """Replaces `file` atomically by the set of the public keys."""
    draft = file.with_name(f"{file.name}~")
    draft.write_text(json.dumps({"keys": [key.jwk for key in keys]}))
    draft.rename(file)


def _from_der(signature: bytes) -> bytes:
    """Returns the two numbers of 32 bytes in an ECDSA signature from OpenSSL."""
    # SEQUENCE { INTEGER r, INTEGER s }, all shorter than 128 bytes.
    numbers, rest = b"", signature[2:]
    while rest:
        size = rest[1]
        numbers += int.from_bytes(rest[2 : 2 + size]).to_bytes(32)
        rest = rest[2 + size :]
    return numbers


def _openssl(*arguments: str, given: bytes = b"") -> bytes:
    return subprocess.run(
        ["openssl", *arguments], input=given, capture_output=True, check=True
    ).stdout
