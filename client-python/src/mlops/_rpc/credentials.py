"""Credentials: the token and the certificates of a client, and when to use TLS."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn, Self, TypedDict

import grpc

from mlops._rpc import errors
from mlops._rpc.address import is_local

TOKEN_VARIABLE = "MLOPS_WORKSPACE_TOKEN"
_VARIABLES = {
    "token": TOKEN_VARIABLE,
    "token_file": "MLOPS_WORKSPACE_TOKEN_FILE",
    "ca": "MLOPS_WORKSPACE_CA",
    "cert": "MLOPS_WORKSPACE_CERT",
    "key": "MLOPS_WORKSPACE_KEY",
}
# Servers refuse longer tokens.
_MAX_TOKEN_BYTES = 8192
Pathlike = str | os.PathLike[str]


class CredentialOptions(TypedDict, total=False):
    """How a client proves its identity, and which server certificates it trusts.

    token: A token or JWT that the server accepts. It is never written to a log, an
        error or a pickle. Default: the environment variable MLOPS_WORKSPACE_TOKEN.
    token_file: A file that holds the token, read again when it changes. Default:
        MLOPS_WORKSPACE_TOKEN_FILE.
    ca: A PEM file with the authorities that the server's certificate may come from.
        Default: MLOPS_WORKSPACE_CA, else the public authorities that gRPC knows.
    cert, key: PEM files with this client's certificate and private key. Default:
        MLOPS_WORKSPACE_CERT and MLOPS_WORKSPACE_KEY.

    Connections to "https://HOST:PORT" are encrypted. Connections to "HOST:PORT" are
    encrypted if there is a `ca` or a `cert`, or if there is a token and HOST is not
    this machine. A token is never sent unencrypted to another machine. `ca`, `cert` and
    `key` are read again for new connections when they change.

    An object with a `token` argument cannot be pickled, since pickles are often stored.
    Give a `token_file`, or set the environment variable, to use it in other processes.
    """

    token: str | None
    token_file: Pathlike | None
    ca: Pathlike | None
    cert: Pathlike | None
    key: Pathlike | None


# Identifies one state of a file.
_Stamp = tuple[int, int, int] | None


@dataclass
class _TokenFile:
    """A token file and its last contents. Thread-safe."""

    path: str
    _last: tuple[_Stamp, str] = field(default=(None, ""), repr=False)

    def read(self) -> str:
        """Return the token; the previous one while the file is missing or malformed.

        A shell that writes the file truncates it first.
        """
        stamp, token = self._last
        now = _stamp(self.path)
        if token and now in (stamp, None):
            return token
        try:
            fresh = self._load()
        except errors.WorkspaceError:
            if token:
                return token
            raise
        self._last = now, fresh
        return fresh

    def _load(self) -> str:
        try:
            with open(self.path, encoding="ascii", errors="replace") as file:
                text = file.read(2 * _MAX_TOKEN_BYTES)
        except OSError as error:
            raise errors.field_invalid(
                "token_file", f"{self.path} cannot be read: {error.strerror}"
            ) from None
        return _checked_token("token_file", text)


@dataclass(frozen=True)
class Credentials:
    """A client's credentials, as CredentialOptions describes them.

    Immutable and thread-safe; the files are read on use. Equal credentials may share a
    connection.
    """

    token: str = field(default="", repr=False)
    token_file: str = ""
    ca: str = ""
    cert: str = ""
    key: str = ""
    # The caller's arguments. The other values come from the environment.
    _given: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    _file: _TokenFile = field(
        default_factory=lambda: _TokenFile(""), repr=False, compare=False
    )

    @classmethod
    def of(cls, options: CredentialOptions) -> Self:
        """Return the credentials that the options and the environment describe.

        Raises:
            WorkspaceError: FIELD_INVALID if an option has the wrong type, the token is
                malformed, or the options contradict each other.
        """
        given = {name: value for name, value in options.items() if value is not None}
        if unknown := sorted(given.keys() - _VARIABLES.keys()):
            raise TypeError(f"unexpected keyword argument: {', '.join(unknown)}")
        if {"token", "token_file"} <= given.keys():
            _refuse(
                "token", "cannot be combined with token_file: leave one of them out"
            )
        values = {name: _text(name, value) for name, value in given.items()}
        # An argument overrides all environment variables of its group.
        for names in (("token", "token_file"), ("ca",), ("cert", "key")):
            if not given.keys() & set(names):
                values |= {name: os.environ.get(_VARIABLES[name], "") for name in names}
        # If the environment has both a token and a token file, use the token.
        if "token" in given or values.get("token"):
            name = "token" if "token" in given else TOKEN_VARIABLE
            values["token"] = _checked_token(name, values["token"])
            values["token_file"] = ""
        if bool(values.get("cert")) != bool(values.get("key")):
            name = "key" if values.get("cert") else "cert"
            _refuse(name, "is missing: a certificate and its key belong together")
        return cls(
            **values, _given=given, _file=_TokenFile(values.get("token_file", ""))
        )

    def __reduce__(self) -> tuple[Callable[[CredentialOptions], Credentials], Any]:
        """Pickle only the arguments; the other process reads its own environment."""
        if "token" in self._given:
            refuse_to_pickle()
        return Credentials.of, (dict(self._given),)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    @property
    def has_token(self) -> bool:
        """Whether calls carry a token."""
        return bool(self.token or self.token_file)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the metadata that authorizes a call; empty without a token.

        Raises:
            WorkspaceError: FIELD_INVALID if the token file cannot be used.
        """
        if not self.has_token:
            return ()
        token = self.token or self._file.read()
        return (("authorization", f"Bearer {token}"),)

    def need_tls(self, address: str) -> bool:
        """Return whether the connection to `address` is encrypted."""
        if address.startswith(("unix:", "http://")):
            return False
        return (
            address.startswith("https://")
            or bool(self.ca or self.cert)
            or (self.has_token and not is_local(address))
        )

    def check_address(self, name: str, address: str) -> None:
        """Check that a token does not go to another machine unencrypted.

        Raises:
            WorkspaceError: FIELD_INVALID for the field `name` if it would.
        """
        if self.has_token and not self.need_tls(address) and not is_local(address):
            raise errors.field_invalid(
                name,
                f"{address:.256} would send the token to another machine, "
                "unencrypted: use https://, or leave the token out",
            )

    def stamp(self) -> tuple[_Stamp, ...]:
        """Return a value that changes when `ca`, `cert` or `key` is replaced."""
        return tuple(_stamp(path) for path in (self.ca, self.cert, self.key) if path)

    def for_channel(self) -> grpc.ChannelCredentials:
        """Return gRPC's credentials for a TLS connection.

        Raises:
            WorkspaceError: FIELD_INVALID if a file cannot be used.
        """
        # Import late: only connections with TLS need it.
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # Check the files here, because gRPC reports unusable files late and unclearly.
        if self.ca:
            with _usable("ca", self.ca):
                context.load_verify_locations(self.ca)
        if self.cert:
            with _usable("cert", f"{self.cert} with the key {self.key}"):
                # Without a password, OpenSSL would prompt for one on the terminal.
                context.load_cert_chain(self.cert, self.key, password="")
        return grpc.ssl_channel_credentials(
            _read(self.ca), _read(self.key), _read(self.cert)
        )


NONE = Credentials()


def refuse_to_pickle() -> NoReturn:
    """Raise the error for an object that holds a token argument."""
    raise pickle.PicklingError(
        "An object with a token argument is not pickled, because pickles are often "
        "stored: give a token_file instead, "
        f"or set {TOKEN_VARIABLE} in the other process"
    )


@contextmanager
def _usable(name: str, what: str) -> Iterator[None]:
    """Convert the errors of files that OpenSSL cannot use."""
    try:
        yield
    except OSError as error:  # Including ssl.SSLError.
        why = error.strerror or str(error)
        raise errors.field_invalid(name, f"{what} cannot be used: {why}") from None


def _read(path: str) -> bytes | None:
    if not path:
        return None
    with open(path, "rb") as file:
        return file.read()


def _stamp(path: str) -> _Stamp:
    try:
        info = os.stat(path)
    except OSError:
        return None
    return info.st_mtime_ns, info.st_ino, info.st_size


def _text(name: str, value: object) -> str:
    if name == "token":
        if not isinstance(value, str):
            _refuse(name, f"must be text, not {type(value).__name__}")
        return value
    try:
        return os.path.expanduser(os.fsdecode(value))  # type: ignore[arg-type]
    except TypeError:
        _refuse(name, f"must be a path, not {type(value).__name__}")


def _refuse(name: str, problem: str) -> NoReturn:
    raise errors.field_invalid(name, problem)


def _checked_token(name: str, token: str) -> str:
    """Return the token without surrounding white space. Errors must not contain it."""
    token = token.strip()
    if not token:
        _refuse(name, "has no token")
    if len(token) > _MAX_TOKEN_BYTES:
        _refuse(name, f"is longer than {_MAX_TOKEN_BYTES} bytes")
    if not all("!" <= character <= "~" for character in token):
        _refuse(name, "has characters that no token has, such as spaces")
    return token
