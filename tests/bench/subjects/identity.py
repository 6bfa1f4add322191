"""Measures what tokens, a policy and TLS cost a call over loopback TCP."""

import contextlib
import hashlib
import subprocess
from collections.abc import Iterable
from pathlib import Path

from subjects.figures import Row, cpu_us, grouped, median, per_second, ratio, table
from subjects.harness import Bench, Running, free_port, running

_TOKENS = 10_000
_BINDINGS = 1_000
_TOKEN = "mlw_" + "x" * 43
_LABELS = {
    "plain": "workspaced",
    "token": f"workspaced, {_TOKENS:,} tokens and {_BINDINGS:,} bindings",
    "empty tls": "empty handler, TLS",
    "tls": "workspaced, TLS",
}
# Each target is compared with this one.
_COMPARED = {"token": "plain", "tls": "empty tls"}


def run_identity(bench: Bench) -> tuple[str, list[Row]]:
    cert, key = _certificate(bench.work)
    tokens, policy = _access(bench.work)
    tls = ("--tls-cert", cert, "--tls-key", key)
    with contextlib.ExitStack() as stack:

        def serve(name: str, *args: object, scheme: str = "") -> Running:
            address = f"localhost:{free_port()}"
            base = bench.work / name
            command = [bench.workspaced, "--base", base, "--log-calls", "off"]
            return stack.enter_context(
                running([*command, "--listen", address, *args], scheme + address)
            )

        plain = serve("plain")
        token = serve("token", "--tokens", tokens, "--policy", policy)
        encrypted = serve("tls", *tls, scheme="https://")
        bench.rows("rpc_bench", plain.target("model"), "--prepare")
        address = f"localhost:{free_port()}"
        empty = stack.enter_context(
            running(
                [
                    bench.program("empty_server"),
                    address,
                    plain.address,
                    "project-000000",
                    cert,
                    key,
                ],
                f"https://{address}",
            )
        )
        rows = bench.rows(
            "rpc_bench",
            plain.target("plain"),
            token.target("token"),
            empty.target("empty tls"),
            encrypted.target("tls"),
            "--ca",
            cert,
            "--token",
            _TOKEN,
            "--token-target",
            "token",
            "--rounds",
            bench.sizes.rounds,
            "--round-ms",
            bench.sizes.round_ms,
        )
    return _table(rows), rows


def _table(rows: list[Row]) -> str:
    lines = []
    for (depth, target), group in grouped(rows, "depth", "target").items():
        other = _COMPARED.get(target)
        lines.append(
            [
                depth,
                _LABELS[target],
                f"{median(per_second(row) for row in group):,.0f}",
                ratio(per_second, rows, target, other, depth=depth) if other else "",
                f"{median(cpu_us(row) for row in group):.1f}",
                _LABELS[other] if other else "",
            ]
        )
    head = ["depth", "Get, served by", "calls/s", "ratio", "server CPU µs/call", "to"]
    return table(head, lines)


def _certificate(work: Path) -> tuple[Path, Path]:
    """Makes a certificate for localhost that is its own authority."""
    cert, key = work / "cert.pem", work / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"]
    command += ["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(
        [*command, "-keyout", key, "-out", cert], check=True, capture_output=True
    )
    return cert, key


def _access(work: Path) -> tuple[Path, Path]:
    """Writes the files of tokens and bindings."""
    tokens, policy = work / "tokens", work / "policy.yaml"
    users = ((f"user-{i}", f"t{i}") for i in range(_TOKENS - 1))
    write_tokens(tokens, [("robot", _TOKEN), *users])
    bindings = "".join(
        f'  - {{principal: "user-{i}", role: editor, projects: ["team-{i}-*"]}}\n'
        for i in range(_BINDINGS - 1)
    )
    policy.write_text(
        f"bindings:\n{bindings}"
        '  - {principal: robot, role: editor, projects: ["project-*"]}\n'
    )
    return tokens, policy


def write_tokens(file: Path, tokens: Iterable[tuple[str, str]]) -> Path:
    """Writes the file of these names and tokens, and returns it."""
    file.write_text(
        "".join(
            f"{name} {hashlib.sha256(token.encode()).hexdigest()}\n"
            for name, token in tokens
        )
    )
    return file
