"""Installs client-cpp and builds its examples as an outside project would.

Then runs them against a real server.
"""

import argparse
import re
import shutil
import socket
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
START_SECONDS = 30


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cmake", default="cmake")
    parser.add_argument(
        "--build", type=Path, required=True, help="build tree to install from"
    )
    parser.add_argument("--compiler", default="c++")
    parser.add_argument(
        "--server",
        type=Path,
        help="workspaced; without it the examples are built but not run",
    )
    return parser.parse_args()


def run(*command: str | Path) -> str:
    done = subprocess.run(
        command,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode != 0:
        raise AssertionError(f"{command} exited with {done.returncode}:\n{done.stdout}")
    return done.stdout


def example_of(header: Path) -> str:
    """Returns the program in a header's comment: the indented lines after EXAMPLE."""
    block = re.search(r"// EXAMPLE\n//\n((?://(?:   .*)?\n)+)", header.read_text())
    assert block, f"{header} has no example"
    return "".join(line[5:] + "\n" for line in block[1].splitlines())


def wait_for(path: Path, server: "subprocess.Popen[bytes]") -> None:
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up:
        assert server.poll() is None, f"the server exited with {server.returncode}"
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"no server listens on {path}")


class InstalledPackage(unittest.TestCase):
    arguments: argparse.Namespace
    binaries: Path

    @classmethod
    def setUpClass(cls) -> None:
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.temp = Path(directory.name)
        cls.prefix = cls.temp / "prefix"
        cls.binaries = cls.temp / "build"
        cmake = cls.arguments.cmake
        run(
            cmake,
            "--install",
            cls.arguments.build,
            "--prefix",
            cls.prefix,
            "--component",
            "client-cpp",
        )
        project = shutil.copytree(
            SOURCE / "tests/package/consumer", cls.temp / "project"
        )
        for example in (SOURCE / "client-cpp/examples").glob("*.cc"):
            shutil.copy(example, project)
        header = cls.prefix / "include/mlops/workspace_client.h"
        (project / "header_example.cc").write_text(example_of(header))
        run(
            *(
                cmake,
                "-S",
                project,
                "-B",
                cls.binaries,
                f"-DCMAKE_PREFIX_PATH={cls.prefix}",
            ),
            f"-DCMAKE_CXX_COMPILER={cls.arguments.compiler}",
        )
        run(cmake, "--build", cls.binaries)

    def test_headers_name_no_generated_code(self) -> None:
        headers = sorted((self.prefix / "include").rglob("*.h"))
        names = [str(header.relative_to(self.prefix / "include")) for header in headers]
        self.assertEqual(
            names,
            [
                "mlops/artifacts.h",
                "mlops/lease.h",
                "mlops/options.h",
                "mlops/testing/fake_workspace_service.h",
                "mlops/workspace_client.h",
            ],
        )
        for header in headers:
            self.assertNotIn("workspace_service.pb.h", header.read_text())

    def test_contract_is_installed(self) -> None:
        share = self.prefix / "share/mlops-workspace"
        self.assertTrue((share / "mlops-workspace.binpb").is_file())
        protos = share / "proto"
        names = [
            str(proto.relative_to(protos))
            for proto in (protos / "mlops").rglob("*.proto")
        ]
        self.assertIn("mlops/workspace/v1/workspace_service.proto", names)
        run(
            "protoc",
            "-I",
            protos,
            f"--descriptor_set_out={self.temp / 'contract.binpb'}",
            *names,
        )

    def test_fake_runs(self) -> None:
        self.assertEqual(run(self.binaries / "fake_example"), "SHUTTING_DOWN\n")

    def test_examples_run_against_a_server(self) -> None:
        if self.arguments.server is None:
            self.skipTest("no --server")
        path = self.temp / "s"
        command = [
            self.arguments.server,
            "--base",
            self.temp / "base",
            "--listen",
            f"unix:{path}",
        ]
        server = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            wait_for(path, server)
            self.check_examples(f"unix:{path}", self.temp / "base")
        finally:
            server.terminate()
            self.assertEqual(server.wait(timeout=60), 0)

    def check_examples(self, address: str, base: Path) -> None:
        # The second time, the workspace exists already.
        for _ in range(2):
            output = run(self.binaries / "quickstart", address)
            self.assertIn("lora-finetuning keeps its runs in sqlite:///", output)
            self.assertIn('lora-finetuning {"stage":"dev"}', output)
        (base / "lora-finetuning" / "models" / "weights").write_bytes(b"12345")
        self.assertIn(
            "lora-finetuning: 1 files, 5 bytes, models 5",
            run(self.binaries / "watch_usage", address),
        )
        stored = run(
            self.binaries / "artifacts",
            address,
            "lora-finetuning",
            base / "lora-finetuning/models/weights",
        )
        self.assertIn("read 5 bytes, SHA-256 5994471abb01112afcc18159f6cc74b4", stored)
        self.assertIn("made ", run(self.binaries / "header_example", address))
        self.assertIn(
            "as expected: none such", run(self.binaries / "header_example", address)
        )


if __name__ == "__main__":
    InstalledPackage.arguments = parse_arguments()
    unittest.main(argv=[__file__], verbosity=2)
