"""deploy_model with a real BentoML."""

import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bentoml
import pytest
from bentoml._internal.models import ModelStore as BentoModelStore
from mlops.client import MLOpsClient, MLOpsClientError
from mlops.serving.bentoml import ModelStore
from mlops.workspace import ProjectWorkspace, WorkspaceManager

from python.conftest import Script


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model directory, as a training run writes it."""
    directory = tmp_path / "run 17"
    (directory / "tokenizer").mkdir(parents=True)
    (directory / "weights.bin").write_bytes(os.urandom(1000))
    (directory / "tokenizer" / "vocabulary.txt").write_text("ä b c")
    return directory


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def deploy(
    client: MLOpsClient,
    path: Path,
    version: str | None = "v1.0",
    name: str = "lora_adapter",
) -> dict[str, Any]:
    return client.deploy_model(model_path=path, model_name=name, model_version=version)


def stored(client: MLOpsClient) -> list[bentoml.Model]:
    return bentoml.models.list(
        _model_store=BentoModelStore(client.workspace.models_path / "models")
    )


def assert_nothing_stored(client: MLOpsClient) -> None:
    assert ModelStore(client.workspace).count() == {"models": 0, "bentos": 0}
    assert_staging_is_empty(client)


def assert_staging_is_empty(client: MLOpsClient) -> None:
    staging = client.workspace.models_path / ".staging"
    assert (
        not staging.exists()
        or [entry for entry in staging.iterdir() if entry.is_dir()] == []
    )


def run_bentoml(client: MLOpsClient, *args: str) -> str:
    """Runs BentoML's command line with BENTOML_HOME set, and returns its output."""
    command = [sys.executable, "-m", "bentoml", *args]
    environment = {**os.environ, "BENTOML_HOME": str(client.workspace.models_path)}
    return subprocess.run(
        command,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=100,
    ).stdout


def test_a_directory_is_stored_by_name_and_version(
    client: MLOpsClient, model: Path
) -> None:
    result = deploy(client, model)
    path = Path(result["path"])
    assert result == {
        "success": True,
        "tag": "fraud:lora_adapter:v1.0",
        "bento_tag": "lora_adapter:v1.0",
        "path": str(client.workspace.models_path / "models/lora_adapter/v1.0"),
    }
    assert (path / "weights.bin").read_bytes() == (model / "weights.bin").read_bytes()
    assert (path / "tokenizer/vocabulary.txt").read_text() == "ä b c"
    assert [str(found.tag) for found in stored(client)] == ["lora_adapter:v1.0"]


def test_a_file_is_stored_under_its_name(client: MLOpsClient, model: Path) -> None:
    (model / "link.bin").symlink_to("weights.bin")
    result = deploy(client, model / "link.bin")
    assert sorted(entry.name for entry in Path(result["path"]).iterdir()) == [
        "link.bin",
        "model.yaml",
    ]
    assert not (Path(result["path"]) / "link.bin").is_symlink()


def test_a_relative_path_is_found_in_the_workspace(client: MLOpsClient) -> None:
    (client.workspace.outputs_path / "model").mkdir()
    (client.workspace.outputs_path / "model" / "weights.bin").write_text("x")
    assert (
        client.deploy_model("outputs/model", "lora_adapter", "v1.0")["tag"]
        == "fraud:lora_adapter:v1.0"
    )
    with pytest.raises(MLOpsClientError) as raised:
        client.deploy_model("outputs/none", "lora_adapter", "v1.1")
    assert (raised.value.operation, raised.value.component) == (
        "deploy_model",
        "bentoml",
    )
    assert raised.value.details["reason"] == "FILE_NOT_FOUND"


def test_the_tag_has_the_prefix_of_the_workspace(
    manager: WorkspaceManager, model: Path
) -> None:
    manager.create_workspace("fraud", bentoml_tag_prefix="team/fraud:")
    assert (
        deploy(MLOpsClient("fraud", workspace_manager=manager), model)["tag"]
        == "team/fraud:lora_adapter:v1.0"
    )


def test_bentoml_itself_lists_what_is_stored(client: MLOpsClient, model: Path) -> None:
    deploy(client, model)
    [listed] = json.loads(run_bentoml(client, "models", "list", "-o", "json"))
    assert listed["tag"] == "lora_adapter:v1.0"


def test_a_model_that_is_being_written(
    client: MLOpsClient, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy(source: str, target: Path) -> Any:
        copied = real(source, target)
        if writers and Path(source).name == "weights.bin":
            writers.pop()()
        return copied

    real = shutil.copy2
    monkeypatch.setattr(shutil, "copy2", copy)
    with (model / "weights.bin").open("ab", 0) as weights:
        writers: list[Callable[[], object]] = [lambda: weights.write(b"end")]
        path = Path(deploy(client, model)["path"])
        assert (path / "weights.bin").read_bytes() == (
            model / "weights.bin"
        ).read_bytes()
        writers[:] = [lambda: weights.write(b"more")] * 3
        with pytest.raises(
            MLOpsClientError, match="changed while it was read"
        ) as raised:
            deploy(client, model, version="v2")
    assert (
        raised.value.details["reason"] == "FILE_CHANGING" and len(stored(client)) == 1
    )


def test_a_version_is_generated_as_bentoml_does(
    client: MLOpsClient, model: Path
) -> None:
    first, second = (deploy(client, model, version=None) for _ in range(2))
    assert first["bento_tag"] != second["bento_tag"]
    assert all(
        len(result["bento_tag"].removeprefix("lora_adapter:")) == 16
        for result in (first, second)
    )


def test_the_latest_is_the_newest(client: MLOpsClient, model: Path) -> None:
    store = BentoModelStore(client.workspace.models_path / "models")
    for version in ("v2", "v10", "v1"):
        deploy(client, model, version)
        assert store.get("lora_adapter:latest").tag.version == version


def test_what_others_left_of_a_model_is_not_the_latest(
    client: MLOpsClient, model: Path
) -> None:
    deploy(client, model, "v1")
    store = client.workspace.models_path / "models/lora_adapter"
    (store / "v1" / "model.yaml").unlink()
    deploy(client, model, "v2")
    assert (store / "latest").read_text() == "v2"


def test_a_bento_of_the_users_own_is_not_replaced(
    client: MLOpsClient, model: Path
) -> None:
    (model / "weights.bin").rename(model / "weights.pkl")
    own = client.workspace.models_path / "bentos/lora_adapter/v1.0"
    own.mkdir(parents=True)
    with pytest.raises(MLOpsClientError) as raised:
        client.deploy_model(model, "lora_adapter", "v1.0", build_bento=True)
    assert raised.value.details["path"] == str(own)
    assert deploy(client, model)["success"]


def test_a_taken_version_stays_as_it_is(client: MLOpsClient, model: Path) -> None:
    result = deploy(client, model)
    (model / "weights.bin").write_text("others")
    with pytest.raises(MLOpsClientError, match="choose another version") as raised:
        deploy(client, model, "V1.0")
    assert raised.value.details == {
        "reason": "MODEL_EXISTS",
        "tag": "lora_adapter:v1.0",
        "path": result["path"],
    }
    assert len((Path(result["path"]) / "weights.bin").read_bytes()) == 1000
    assert ModelStore(client.workspace).count()["models"] == 1


def test_projects_do_not_see_each_others_models(
    manager: WorkspaceManager, model: Path
) -> None:
    first, second = (
        MLOpsClient(name, workspace_manager=manager) for name in ("first", "second")
    )
    deploy(first, model)
    deploy(second, model)
    deploy(second, model, "v2")
    assert [
        ModelStore(client.workspace).count()["models"] for client in (first, second)
    ] == [1, 2]


@pytest.mark.parametrize(
    "name", ["", "a b", "../up", "-a", "a:b", "a/b", "a" * 64, "ü", "a\n", None, 7]
)
def test_names_that_bentoml_refuses(
    client: MLOpsClient, model: Path, name: Any
) -> None:
    with pytest.raises(
        MLOpsClientError, match="BentoML allows letters, digits"
    ) as raised:
        deploy(client, model, name=name)
    assert raised.value.details == {"reason": "INPUT_INVALID", "field": "model_name"}
    assert_nothing_stored(client)


@pytest.mark.parametrize("version", ["", "v 1", "..", "v1\n", "1" * 64, "latest", 1.0])
def test_versions_that_bentoml_refuses(
    client: MLOpsClient, model: Path, version: Any
) -> None:
    with pytest.raises(MLOpsClientError) as raised:
        deploy(client, model, version)
    assert raised.value.details == {"reason": "INPUT_INVALID", "field": "model_version"}
    assert_nothing_stored(client)


def with_link_out(model: Path) -> None:
    (model / "out").symlink_to("/etc/hostname")


def with_dangling_link(model: Path) -> None:
    (model / "tokenizer" / "gone").symlink_to("nothing")


def with_a_link_to_itself(model: Path) -> None:
    (model / "loop").symlink_to("loop")


def with_a_pipe(model: Path) -> None:
    os.mkfifo(model / "pipe")


def with_bentomls_own_file(model: Path) -> None:
    (model / "model.yaml").write_text("a: b")


def without_files(model: Path) -> None:
    (model / "weights.bin").unlink()
    (model / "tokenizer/vocabulary.txt").unlink()


@pytest.mark.parametrize(
    "spoil",
    [
        with_link_out,
        with_dangling_link,
        with_a_link_to_itself,
        with_a_pipe,
        with_bentomls_own_file,
        without_files,
    ],
)
def test_directories_that_cannot_be_stored(
    client: MLOpsClient, model: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(model)
    with pytest.raises(MLOpsClientError) as raised:
        deploy(client, model)
    assert raised.value.details == {"reason": "INPUT_INVALID", "field": "model_path"}
    assert_nothing_stored(client)


def test_a_device_is_no_model(client: MLOpsClient) -> None:
    with pytest.raises(MLOpsClientError, match="neither a file nor a directory"):
        deploy(client, Path("/dev/zero"))
    assert_nothing_stored(client)


@pytest.mark.parametrize(
    "place",
    [".", "..", "models", "models/models", "models/.staging", "link", "link/models/.."],
)
def test_a_directory_that_holds_the_store_is_not_copied_into_itself(
    client: MLOpsClient, model: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    deploy(client, model)
    monkeypatch.chdir(client.workspace_path)
    (client.workspace_path / "link").symlink_to(client.workspace_path)
    with pytest.raises(MLOpsClientError, match="holds the model store itself"):
        deploy(client, Path(place), version="v2")
    assert len(stored(client)) == 1
    assert_staging_is_empty(client)


ODD_NAMES = ["jürgen #%(x)s${y}{z}{ ,;'\"[a]*?!~\n ", os.fsdecode(b"\xff")]


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_any_path_and_no_temporary_directory(
    model: Path,
    classifier: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nonexistent"])
    workspace = ProjectWorkspace("fraud", tmp_path / name / "fraud")
    workspace.root_path.mkdir(parents=True)
    store = ModelStore(workspace)
    store.deploy(model, "adapter", None, build_bento=False)
    pickled = tmp_path / "model.pkl"
    pickled.write_bytes(pickle.dumps(classifier))
    store.deploy(pickled, "classifier", "v1", build_bento=True)
    assert store.count() == {"models": 2, "bentos": 1}
    assert sorted(os.listdir(tmp_path / name)) == ["fraud"]


def test_links_within_the_model_are_kept(client: MLOpsClient, model: Path) -> None:
    (model / "latest").symlink_to(model / "tokenizer")
    (model / "tokenizer" / "self").symlink_to("..")
    path = Path(deploy(client, model)["path"])
    assert (path / "latest").readlink() == Path("tokenizer")
    assert (path / "tokenizer" / "self").readlink() == Path("..")


def test_of_threads_that_deploy_one_version_one_wins(
    client: MLOpsClient, model: Path
) -> None:
    def attempt(_: int) -> str:
        try:
            return str(deploy(client, model)["success"])
        except MLOpsClientError as error:
            return str(error.details["reason"])

    with ThreadPoolExecutor(8) as pool:
        outcomes = sorted(pool.map(attempt, range(8)))
    assert outcomes == ["MODEL_EXISTS"] * 7 + ["True"]
    assert [str(found.tag) for found in stored(client)] == ["lora_adapter:v1.0"]


DEPLOY = """
import sys
from mlops.client import MLOpsClient, MLOpsClientError
from mlops.workspace import ProjectWorkspace, WorkspaceManager
base, model, version = sys.argv[1:]
client = MLOpsClient("fraud", workspace_manager=WorkspaceManager(base))
try:
    print(client.deploy_model(model, "lora_adapter", version)["bento_tag"])
except MLOpsClientError as error:
    print(error.details["reason"])
"""


def start(base: Path, model: Path, version: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", DEPLOY, str(base), str(model), version]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_of_processes_that_deploy_one_version_one_wins(
    client: MLOpsClient, base: Path, model: Path
) -> None:
    processes = [start(base, model, "v1.0") for _ in range(3)]
    printed = sorted(
        process.communicate(timeout=100)[0].strip() for process in processes
    )
    assert printed == ["MODEL_EXISTS", "MODEL_EXISTS", "lora_adapter:v1.0"]


def test_a_killed_process_leaves_nothing_to_be_seen(
    client: MLOpsClient, base: Path, model: Path
) -> None:
    with (model / "large.bin").open("wb") as large:
        # A sparse file occupies no space, but takes seconds to copy.
        large.truncate(1 << 34)
    staging = client.workspace.models_path / ".staging"
    with start(base, model, "v1.0") as process:
        wait_for(lambda: [*staging.glob("*/models/lora_adapter/v1.0/large.bin")])
        process.kill()
    (model / "large.bin").unlink()
    assert ModelStore(client.workspace).count()["models"] == 0
    assert deploy(client, model)["success"]
    assert_staging_is_empty(client)


def test_a_disk_that_fails_leaves_nothing(
    client: MLOpsClient, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copy2", full)
    with pytest.raises(MLOpsClientError, match="No space left") as raised:
        deploy(client, model)
    assert raised.value.details["reason"] == "TOOLKIT_FAILED"
    assert_nothing_stored(client)


def test_a_deleted_workspace_does_not_come_back(
    client: MLOpsClient, manager: WorkspaceManager, model: Path
) -> None:
    manager.delete_workspace("fraud", force=True)
    with pytest.raises(MLOpsClientError) as raised:
        deploy(client, model)
    assert raised.value.details["reason"] == "WORKSPACE_NOT_LOCAL"
    assert not client.workspace_path.exists()


def test_counting_makes_nothing(client: MLOpsClient) -> None:
    assert ModelStore(client.workspace).count() == {"models": 0, "bentos": 0}
    assert list(client.workspace.models_path.iterdir()) == []


QUIET = """
import os, pathlib, socket, warnings
warnings.simplefilter("ignore")
def refuse(self, address):
    assert self.family == socket.AF_UNIX, address
    return connect(self, address)
connect, socket.socket.connect = socket.socket.connect, refuse
from mlops.client import MLOpsClient
pathlib.Path("weights.bin").write_text("x")
MLOpsClient.from_project("fraud").deploy_model("weights.bin", "lora_adapter", "v1")
from bentoml._internal.utils.analytics.usage_stats import do_not_track
print(do_not_track(), os.path.exists(os.path.expanduser("~/bentoml")))
"""


def test_nothing_is_reported_or_kept_elsewhere(
    script: Script, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BENTOML_DO_NOT_TRACK", raising=False)
    done = script(QUIET, HOME=str(directory))
    assert done.stdout == "True False\n", done.stderr


def test_who_told_bentoml_to_report_is_obeyed(script: Script) -> None:
    # With this variable, BentoML reports only to its log.
    done = script(QUIET, BENTOML_DO_NOT_TRACK="False", __BENTOML_DEBUG_USAGE="True")
    assert done.stdout.startswith("False "), done.stderr


# --- Bentos -------------------------------------------------------------------


@contextmanager
def serving(client: MLOpsClient, tag: str, directory: Path) -> Iterator[str]:
    """Runs `bentoml serve` on a free port and yields its URL once it is ready."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "bentoml",
        "serve",
        tag,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    environment = {
        **os.environ,
        "BENTOML_HOME": str(client.workspace.models_path),
        "BENTOML_DO_NOT_TRACK": "True",
    }
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_for(
            lambda: (
                is_ready(f"http://127.0.0.1:{port}/readyz") or server.poll() is not None
            )
        )
        assert server.poll() is None, (directory / "log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        time.sleep(0.1)
        return False


def predict(url: str, data: list[Any]) -> Any:
    body = json.dumps({"data": data}).encode()
    request = urllib.request.Request(
        f"{url}/predict", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


@pytest.fixture(scope="module")
def wine() -> Any:
    from sklearn.datasets import load_wine

    return load_wine(as_frame=True)


@pytest.fixture(scope="module")
def classifier(wine: Any) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression()).fit(
        wine.data, wine.target
    )


def test_a_bento_serves_a_pickled_model(
    client: MLOpsClient, wine: Any, classifier: Any, tmp_path: Path
) -> None:
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(classifier))
    result = client.deploy_model(tmp_path / "model.pkl", "wine", "v1", build_bento=True)
    rows = wine.data.iloc[[0, 70, 150]]
    with serving(client, result["bento_tag"], tmp_path) as url:
        assert predict(url, rows.to_numpy().tolist()) == [0, 1, 2]
        assert predict(url, rows.to_dict("records")) == [0, 1, 2]
        for wrong in ([[1, 2]], [], ["x"], [{"alcohol": 1}]):
            with pytest.raises(urllib.error.HTTPError) as raised:
                predict(url, wrong)
            assert raised.value.code == 400
    assert ModelStore(client.workspace).count() == {"models": 1, "bentos": 1}
    assert result["bento_path"] == str(client.workspace.models_path / "bentos/wine/v1")


def test_a_bento_serves_an_mlflow_model(
    client: MLOpsClient, wine: Any, classifier: Any, tmp_path: Path
) -> None:
    import mlflow.sklearn
    from mlflow.models import infer_signature

    signature = infer_signature(wine.data, classifier.predict(wine.data))
    mlflow.sklearn.save_model(
        classifier,
        tmp_path / "model",
        signature=signature,
        pip_requirements=["scikit-learn"],
    )
    result = client.deploy_model(tmp_path / "model", "wine", build_bento=True)
    with serving(client, result["bento_tag"], tmp_path) as url:
        assert predict(url, wine.data.iloc[[0, 70, 150]].to_numpy().tolist()) == [
            0,
            1,
            2,
        ]
    requirements = (
        Path(result["bento_path"]) / "env/python/requirements.txt"
    ).read_text()
    assert "scikit-learn" in requirements


def test_what_no_bento_can_serve_is_not_stored(
    client: MLOpsClient, model: Path
) -> None:
    with pytest.raises(MLOpsClientError, match="without build_bento") as raised:
        client.deploy_model(model, "lora_adapter", "v1.0", build_bento=True)
    assert raised.value.details["reason"] == "INPUT_INVALID"
    assert_nothing_stored(client)


def test_a_bento_that_cannot_be_built_leaves_no_model(
    client: MLOpsClient, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (model / "weights.bin").rename(model / "weights.pkl")
    monkeypatch.setenv("BENTOML_CONFIG", str(model / "none.yaml"))
    with pytest.raises(
        MLOpsClientError, match=r"(?s)The bento cannot be built: .*none\.yaml"
    ) as raised:
        client.deploy_model(model, "lora_adapter", "v1.0", build_bento=True)
    assert raised.value.details["reason"] == "TOOLKIT_FAILED"
    assert_nothing_stored(client)


def test_a_build_reaches_no_network(
    client: MLOpsClient, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (model / "weights.bin").rename(model / "weights.pkl")
    calls = model.parent / "calls"
    (model.parent / "sitecustomize.py").write_text(WATCH.format(calls=str(calls)))
    monkeypatch.setenv("PYTHONPATH", str(model.parent))
    assert client.deploy_model(model, "lora_adapter", "v1.0", build_bento=True)[
        "success"
    ]
    assert calls.read_text() == "started\n"


WATCH = """
import sys
def note(what):
    with open({calls!r}, "a") as file: file.write(what + "\\n")
def audit(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen"):
        note(event)
note("started")
sys.addaudithook(audit)
"""
