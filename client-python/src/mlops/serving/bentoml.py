"""ModelStore: the workspace's BentoML stores. Only this module imports bentoml."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import bentoml
from bentoml._internal.bento import BentoStore
from bentoml._internal.models import Model, ModelContext, ModelOptions
from bentoml._internal.models import ModelStore as BentoModelStore
from bentoml._internal.models.model import ModelInfo
from bentoml.exceptions import BentoMLException

from mlops._toolkits.errors import MLOpsClientError, input_invalid
from mlops._toolkits.locks import locked
from mlops._toolkits.paths import require_local
from mlops._toolkits.staging import staging
from mlops._toolkits.stamps import ATTEMPTS, changing, stamps
from mlops.serving import bento
from mlops.workspace import ProjectWorkspace

# BentoML reads this at its first event, which cannot precede this import.
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

_TAG_PART = re.compile(r"[a-z0-9]([-._a-z0-9]{0,61}[a-z0-9])?")
_OWN_FILE = "model.yaml"
_STORES = {"models": BentoModelStore, "bentos": BentoStore}
_WAIT_SECONDS = 60.0  # For others that publish a model, by a few renames.


class ModelStore:
    """BentoML's stores in one workspace.

    The workspace's models/ is a BENTOML_HOME with models/ and bentos/ below it. Models
    and bentos are staged and then renamed into place: they appear atomically and are
    never replaced. Thread-safe, also with other processes.
    """

    def __init__(self, workspace: ProjectWorkspace) -> None:
        self._workspace = workspace
        self._home = workspace.models_path
        self._staging_area = self._home / ".staging"

    def deploy(
        self, path: Path, name: str, version: str | None, build_bento: bool
    ) -> dict[str, object]:
        """Store a copy of a file or directory as the model `name`:`version`.

        Links within a directory are kept.

        Args:
            version: Converted to lower case. Without it, BentoML generates one.
            build_bento: Also build a bento of the same tag that serves the model; see
                mlops.serving.bento.

        Returns:
            `success`, `tag` ("<prefix><name>:<version>", with the workspace's prefix),
                `bento_tag` (BentoML's own), the `path` of the model and, if a bento was
                built, its `bento_path`.

        Raises:
            MLOpsClientError: MODEL_EXISTS if the version exists; INPUT_INVALID for a
                name or version that cannot be part of a tag, for a directory without
                files or with links that lead out of it, and for a model that no bento
                can serve; FILE_CHANGING; WORKSPACE_NOT_LOCAL; REPOSITORY_BUSY. Nothing
                is stored then.
        """
        require_local(self._workspace)
        # Check everything that can be checked before anything is copied.
        tag = _tag(name, version)
        self._refuse_itself(path)
        servable = bento.find_servable(path) if build_bento else None
        kinds = ["models", "bentos"] if servable else ["models"]
        self._refuse_taken(tag, kinds)
        self._home.mkdir(exist_ok=True)
        # Build a complete store in the staging area, so that a failure leaves nothing.
        with staging(self._staging_area) as home:
            _store_model(path, tag, home)
            if servable:
                bento.build(servable, tag.name, tag.version, home)
            self._publish(tag, kinds, home)
        prefix = (
            self._workspace.bentoml_tag_prefix or f"{self._workspace.project_name}:"
        )
        result = {
            "success": True,
            "tag": f"{prefix}{tag}",
            "bento_tag": str(tag),
            "path": str(self._path("models", tag)),
        }
        return (
            {**result, "bento_path": str(self._path("bentos", tag))}
            if servable
            else result
        )

    def count(self) -> dict[str, int]:
        """Return the numbers of `models` and `bentos` that BentoML lists."""
        stores = {kind: self._home / kind for kind in _STORES}
        return {
            kind: len(_STORES[kind](path).list()) if path.is_dir() else 0
            for kind, path in stores.items()
        }

    def list_models(self) -> list[dict[str, object]]:
        """Return the models that BentoML lists, the latest first, as JSON values."""
        directory = self._home / "models"
        if not directory.is_dir():
            return []
        found = BentoModelStore(directory).list()
        found.sort(key=lambda model: model.info.creation_time, reverse=True)
        return [
            {
                "tag": str(model.tag),
                "created_at": model.info.creation_time.isoformat(),
                "size_bytes": int(model.file_size),
                "path": str(model.path),
            }
            for model in found
        ]

    def _refuse_itself(self, path: Path) -> None:
        """Refuse paths that would be copied into themselves.

        These are directories that contain the store, and entries of its staging area.
        """
        home = self._home.resolve()
        own = [home, *home.parents, *(home / kind for kind in _STORES)]
        if any(
            path.samefile(directory) for directory in own if directory.exists()
        ) or path.resolve().is_relative_to(self._staging_area.resolve()):
            raise input_invalid(
                "model_path",
                f"{path} holds the model store itself; name the model's own directory",
            )

    def _path(self, kind: str, tag: bentoml.Tag) -> Path:
        return self._home / kind / str(tag.path())

    def _refuse_taken(self, tag: bentoml.Tag, kinds: list[str]) -> None:
        for path in (self._path(kind, tag) for kind in kinds):
            if path.exists():
                raise MLOpsClientError(
                    f"{tag} is stored already, at {path}: "
                    "choose another version, or delete it by bentoml",
                    details={
                        "reason": "MODEL_EXISTS",
                        "tag": str(tag),
                        "path": str(path),
                    },
                )

    def _publish(self, tag: bentoml.Tag, kinds: list[str], home: Path) -> None:
        for kind in kinds:
            self._path(kind, tag).parent.mkdir(parents=True, exist_ok=True)
            (home / f"latest of {kind}").write_text(tag.version)
        # Only one process at a time publishes, so no version is taken twice.
        with locked(self._staging_area / "publish.lock", _WAIT_SECONDS):
            self._refuse_taken(tag, kinds)
            moved: list[str] = []
            try:
                for kind in kinds:
                    (home / kind / tag.path()).rename(self._path(kind, tag))
                    moved.append(kind)
            except OSError:
                # Publish the model and the bento together, or neither.
                for kind in moved:
                    self._path(kind, tag).rename(home / kind / tag.path())
                raise
            for kind in kinds:
                # Update the link as BentoML does, but atomically.
                if _is_newest(tag, _STORES[kind](self._home / kind)):
                    (home / f"latest of {kind}").replace(
                        self._home / kind / tag.latest_path()
                    )


def _is_newest(tag: bentoml.Tag, store: BentoModelStore | BentoStore) -> bool:
    try:
        return bool(store.get(tag.name).creation_time <= store.get(tag).creation_time)
    except BentoMLException:
        # The store's latest version is incomplete.
        return True


def _tag(name: str, version: str | None) -> bentoml.Tag:
    for field, part in (("model_name", name), ("model_version", version)):
        if part is None and field == "model_version":
            continue
        if not isinstance(part, str) or not _TAG_PART.fullmatch(part.lower()):
            allowed = (
                "letters, digits, '.', '_' and '-', a letter or digit at both ends, "
                "63 characters at most"
            )
            raise input_invalid(field, f"is {part!r:.100}; BentoML allows {allowed}")
    if version is not None and version.lower() == "latest":
        raise input_invalid(
            "model_version", "is 'latest', which is BentoML's name for the newest one"
        )
    tag = bentoml.Tag(name, version)
    return tag if version is not None else tag.make_new_version()


def _store_model(source: Path, tag: bentoml.Tag, home: Path) -> None:
    target = home / "models" / tag.path()
    is_directory = source.is_dir()
    if (
        os.path.lexists(source / _OWN_FILE)
        if is_directory
        else source.name == _OWN_FILE
    ):
        raise input_invalid(
            "model_path",
            f"has a {_OWN_FILE}, where BentoML writes its own: "
            "put it in a sub-directory",
        )
    if not is_directory and not source.is_file():
        raise _neither(source)
    target.parent.mkdir(parents=True)
    _copy_unchanged(source.resolve() if is_directory else source, target)
    # BentoML's own API would copy all files twice, through the system's temporary
    # directory, which may be missing.
    context = ModelContext(framework_name="", framework_versions={})
    info = ModelInfo(tag, "", {}, ModelOptions(), {}, context, {}, "v1")
    Model(tag, str(target), info, internal=True).flush()


def _copy_unchanged(source: Path, target: Path) -> None:
    """Copy a file or directory as it is at one moment.

    Raises:
        MLOpsClientError: FILE_CHANGING if other processes keep writing to it.
    """
    for _ in range(ATTEMPTS):
        before = stamps(lambda: _files(source))
        target.mkdir()
        with suppress(FileNotFoundError):
            if source.is_dir():
                _copy_directory(source, target)
            else:
                shutil.copy2(source, target)
            if stamps(lambda: _files(source)) == before:
                return
        shutil.rmtree(target)
    raise changing(source)


def _files(source: Path) -> Iterator[Path]:
    if not source.is_dir():
        yield source
    for directory, _, names in os.walk(source):
        yield from (Path(directory, name) for name in names)


def _copy_directory(source: Path, target: Path) -> None:
    files_copied = 0
    for directory, _, files in os.walk(source, onerror=_raise):
        here = target / Path(directory).relative_to(source)
        here.mkdir(exist_ok=True)
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_symlink():
                    (here / entry.name).symlink_to(
                        _link_within(source, Path(entry.path))
                    )
                elif entry.is_file():
                    shutil.copy2(entry.path, here)
                elif not entry.is_dir():
                    raise _neither(entry.path)
        files_copied += len(files)
    if files_copied == 0:
        raise input_invalid("model_path", f"{source} holds no file")


def _neither(path: str | Path) -> MLOpsClientError:
    return input_invalid("model_path", f"{path} is neither a file nor a directory")


def _raise(error: OSError) -> NoReturn:
    raise error


def _link_within(root: Path, link: Path) -> str:
    target = Path(os.path.realpath(link))
    if not target.is_relative_to(root) or not target.exists():
        raise input_invalid(
            "model_path",
            f"{link} leads to {target}, out of the model: "
            "put the file itself there, as cp -rL does",
        )
    return os.path.relpath(target, link.parent)
