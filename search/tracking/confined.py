"""Artifacts that MLflow's server may show: files below a folder, whatever its database says."""

import os
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

from mlflow.entities import FileInfo
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from mlflow.store.artifact import artifact_repository_registry
from mlflow.store.artifact.artifact_repository_registry import ArtifactRepositoryRegistry
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository


def confine(root: Path) -> None:
    """Let this process read artifacts below a folder alone; to be called before MLflow serves.

    An experiment's, a run's or a model's artifacts lie where the database says, and whoever wrote
    that could have named any folder. Whatever is asked for, MLflow opens them by its registry.
    """
    artifact_repository_registry._artifact_repository_registry = _Confined(root.resolve())


class _Confined(ArtifactRepositoryRegistry):
    def __init__(self, root: Path):
        super().__init__()  # type: ignore[no-untyped-call]
        self._root = root

    def get_artifact_repository(self, artifact_uri: str, *_: Any, **__: Any) -> "_Artifacts":
        return _Artifacts(artifact_uri, self._root)


class _Artifacts(LocalArtifactRepository):
    """Artifacts below a folder, to be read."""

    def __init__(self, uri: str, root: Path):
        where = urlsplit(uri)
        if where.scheme not in ("", "file") or where.netloc not in ("", "localhost"):
            _refuse(uri, root)
        super().__init__(uri)
        self._root = root
        self._check("")

    def get_local_path(self, artifact_path: str) -> str:
        self._check(artifact_path)
        return str(super().get_local_path(artifact_path))

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        self._check(path or "")
        files = super().list_artifacts(path)  # type: ignore[no-untyped-call]
        return [file for file in files if self._is_below(file.path)]

    def _check(self, path: str) -> None:
        if not self._is_below(path):
            _refuse(os.path.join(self.artifact_dir, path), self._root)

    def _is_below(self, path: str) -> bool:
        """Return whether it is, links and quoted signs resolved, and is no device or pipe."""
        for name in {path, unquote(path)}:
            target = Path(self.artifact_dir, name).resolve()
            if not target.is_relative_to(self._root):
                return False
            if target.exists() and not (target.is_file() or target.is_dir()):
                return False
        return True

    def _get_or_create_artifact_dir(self, artifact_path: str | None = None) -> NoReturn:
        _refuse(f"{self.artifact_dir}, to write there", self._root)

    def delete_artifacts(self, artifact_path: str | None = None) -> NoReturn:
        _refuse(f"{self.artifact_dir}, to delete there", self._root)


def _refuse(what: str, root: Path) -> NoReturn:
    said = f"{what}: segtune ui shows artifacts below {root} alone"
    raise MlflowException(said, PERMISSION_DENIED)
