"""Keeps the configuration of a workspace's DVC repository correct after a move."""

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from configobj import ConfigObj, ConfigObjError, Section

REMOTE = "workspace"  # The name of the workspace's remote.
# Below .dvc, because all repositories of a machine share DVC's default site cache.
SITE_CACHE = "site-cache"


def update(root: Path, remote_url: str) -> None:
    """Update the configuration in `root`/.dvc for DVC's command line.

    Sets the URL of REMOTE to `remote_url`. If the repository was moved or copied here,
    first rewrites absolute paths below its old root to the new root. Neither reads nor
    writes at the old root. The caller holds the repository's lock.
    """
    directory = root / ".dvc"
    config = _read(directory / "config")
    old_root = _recorded_root(config)
    if old_root is not None and old_root != root:
        move = _mover(old_root, root)
        _move_links(root, old_root / ".dvc", move)
        # Change the main file last, because it records the old root: an interrupted
        # move is then repeated.
        local = _read(directory / "config.local")
        _move_values(local, move)
        _write(local, directory / "config.local")
        _move_values(config, move)
    _set_wanted(config, root, remote_url)
    _write(config, directory / "config")


def places(root: Path) -> list[str]:
    """Return the URLs and paths of the remotes and caches of the repository in `root`.

    Relative paths begin at `root`/.dvc. Reads only; a missing or malformed file names
    none.
    """
    found = []
    for name in ("config", "config.local"):
        try:
            config = _read(root / ".dvc" / name)
        except (OSError, ConfigObjError, UnicodeDecodeError):
            continue
        for section in config.sections:
            key = "dir" if section.lower() == "cache" else "url"
            value = config[section].get(key)
            if isinstance(value, str):
                found.append(value)
    return found


def _recorded_root(config: ConfigObj) -> Path | None:
    """Return the repository's root when update() last wrote its configuration."""
    recorded = _section(config, "core").get("site_cache_dir")
    if not isinstance(recorded, str) or not recorded.endswith(f"/.dvc/{SITE_CACHE}"):
        return None
    return Path(recorded).parent.parent


def _mover(old_root: Path, root: Path) -> Callable[[str], str]:
    """Return a function that rewrites paths and file URLs below the old root.

    The function returns any other value unchanged.
    """
    # Paths may also name other directories of the workspace, unless dvc/ is elsewhere,
    # behind a link.
    if old_root.name == root.name and (root.parent / "workspace.yaml").exists():
        old_root, root = old_root.parent, root.parent

    def move(value: str) -> str:
        scheme, path = (
            ("file://", value[7:]) if value.startswith("file://") else ("", value)
        )
        below = path == str(old_root) or path.startswith(f"{old_root}/")
        return f"{scheme}{root}{path[len(str(old_root)) :]}" if below else value

    return move


def _move_values(section: Section, move: Callable[[str], str]) -> None:
    for key in list(section.scalars):
        if isinstance(section[key], str):
            _set_path(section, key, move(section[key]))
    for name in section.sections:
        _move_values(section[name], move)


def _move_links(root: Path, old_directory: Path, move: Callable[[str], str]) -> None:
    """Rewrite links into the cache, which DVC makes if `cache.type` is symlink."""
    for link in _links(root):
        target = os.readlink(link)
        if Path(target).is_relative_to(old_directory):
            draft = f"{link}~"
            os.symlink(move(target), draft)
            os.replace(draft, link)


def _links(directory: Path) -> Iterator[str]:
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_symlink():
                yield entry.path
            elif entry.is_dir() and entry.name != ".dvc":
                yield from _links(Path(entry.path))


def _set_wanted(config: ConfigObj, root: Path, remote_url: str) -> None:
    core = _section(config, "core")
    core.update({"no_scm": "True", "analytics": "False", "check_update": "False"})
    core.setdefault("remote", REMOTE)
    _set_path(core, "site_cache_dir", str(root / ".dvc" / SITE_CACHE))
    # A relative URL follows the repository even before update() is called. DVC resolves
    # it against .dvc.
    relative = (
        os.path.relpath(remote_url, root / ".dvc")
        if Path(remote_url).is_relative_to(root)
        else remote_url
    )
    _set_path(_section(config, f'remote "{REMOTE}"'), "url", relative)


def _set_path(section: Section, key: str, value: str) -> None:
    """Set `key`, or remove it if DVC would read another value.

    The client itself does not depend on the value.
    """
    if _survives(value):
        section[key] = value
    else:
        section.pop(key, None)


def _survives(value: str) -> bool:
    """Return whether DVC reads back the same value.

    Its parser expands `%(name)s` and splits lines at rare characters.
    """
    written = ConfigObj({"section": {"key": value}}, interpolation=False)
    try:
        text = "\n".join(written.write())
        text.encode()
        return bool(ConfigObj(io.StringIO(text)).dict()["section"]["key"] == value)
    except (ConfigObjError, UnicodeEncodeError):
        return False


def _section(config: ConfigObj, name: str) -> Section:
    """Return the section of that name, creating it if missing.

    DVC ignores the case of section names.
    """
    known = next((key for key in config.sections if key.lower() == name), name)
    return config.setdefault(known, {})


def _read(file: Path) -> ConfigObj:
    """Read a configuration file; a missing file is an empty configuration."""
    content: Any = file.read_bytes() if file.exists() else b""
    return ConfigObj(io.BytesIO(content), encoding="utf-8", interpolation=False)


def _write(config: ConfigObj, file: Path) -> None:
    """Replace the file atomically, unless it has this content already."""
    for name in list(config.sections):
        # DVC refuses a remote without a URL.
        if not config[name] or (
            name.lower().startswith("remote ") and "url" not in config[name]
        ):
            del config[name]
    buffer = io.BytesIO()
    config.write(buffer)
    content = buffer.getvalue()
    if content == (file.read_bytes() if file.exists() else b""):
        return
    draft = file.with_name(f"{file.name}~")
    draft.write_bytes(content)
    draft.replace(file)
