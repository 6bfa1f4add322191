"""Which addresses count as local, and how wildcard addresses are made reachable."""

import pytest
from mlops._rpc.address import check_address, is_local, reachable
from mlops.workspace import WorkspaceError


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("unix:/a", True),
        ("localhost:1", True),
        ("LOCALHOST:1", True),
        ("127.0.0.1:1", True),
        ("127.255.0.3:1", True),
        ("[::1]:1", True),
        ("::1:1", True),
        ("[::ffff:127.0.0.1]:1", True),
        ("ipv4:127.0.0.1:1", True),
        ("ipv6:[::1]:1", True),
        ("127.example.org:1", False),
        ("127.0.0.1.example.org:1", False),
        ("localhost.example.org:1", False),
        ("127.0.0.256:1", False),
        ("128.0.0.1:1", False),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("[::ffff:10.0.0.1]:1", False),
        ("[::1%25eth0].example:1", False),
        ("example:127", False),
    ],
)
def test_only_parsed_loopback_is_local(address: str, local: bool) -> None:
    assert is_local(address) is local


@pytest.mark.parametrize(
    ("address", "reached"),
    [
        ("0.0.0.0:7", "host:7"),
        ("[::]:7", "host:7"),
        ("[0::0]:7", "host:7"),
        ("0.0.0.0.example:7", "0.0.0.0.example:7"),
        ("10.0.0.1:7", "10.0.0.1:7"),
        ("name:7", "name:7"),
    ],
)
def test_every_address_of_a_machine_is_reached_by_its_name(
    address: str, reached: str
) -> None:
    assert reachable(address, "host") == reached


@pytest.mark.parametrize("address", [7, b"host:1", None])
def test_an_address_is_text(address: object) -> None:
    with pytest.raises(
        WorkspaceError, match="address: must be text, unix:PATH or HOST:PORT, not"
    ) as caught:
        check_address("address", address)  # type: ignore[arg-type]
    assert caught.value.details["reason"] == "FIELD_INVALID"
