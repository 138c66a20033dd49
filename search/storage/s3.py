"""Where studies lie that no shared path holds: objects under `s3://bucket/prefix`.

The commands go on seeing folders: each place in S3 has a mirror folder on this machine, which a
file in it names. The endpoint is part of a place, from AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL or
`?endpoint_override=`; credentials never are: each machine finds its own as AWS's tools do.
"""

import hashlib
import os
import re
import tempfile
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from search.storage.private_folder import private_folder
from trainer.configfile import ConfigError
from trainer.files.atomic import write_atomically
from trainer.files.documents import from_json, to_json

MARK = ".place.json"
"""In a mirror folder: the place's URI, and what tells this mirror from those of other machines."""
OPTIONS = ("endpoint_override", "scheme", "region")
TIMEOUT_S = 5.0
AT_ONCE = 16
"""Objects that are read or deleted at the same time."""


def is_remote(path: str) -> bool:
    """Return whether something is in S3 and not a path."""
    return path.startswith("s3://")


def cache_folder() -> Path:
    """Return where this machine keeps copies: SEGTUNE_CACHE, else ~/.cache/segtune.

    Where there is no home that can be written, it is in a private folder of temporary files.
    """
    if given := os.environ.get("SEGTUNE_CACHE"):
        return Path(given).expanduser().resolve()
    try:
        folder = Path.home() / ".cache" / "segtune"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return private_folder(tempfile.gettempdir()) / "cache"
    return folder.resolve()


class Entry(NamedTuple):
    """An object as a listing shows it."""

    key: str
    size: int
    changed_s: float
    """By the server's clock, perhaps in whole seconds."""


@dataclass(frozen=True)
class Remote:
    """A prefix in S3; keys are relative to it. Objects appear whole or not at all."""

    path: str
    """bucket/prefix, without a slash at its end."""
    endpoint_override: str = ""
    """host:port; empty for AWS."""
    scheme: str = ""
    region: str = ""

    @classmethod
    def parse(cls, uri: str) -> "Remote":
        """Read a URI, with the endpoint from the environment where it names none.

        Raises:
            ConfigError: It is none, or it holds credentials, which would be written down.
        """
        # Not urlsplit: a prefix may hold `#`, `%` and a `?` that begins no options.
        query = re.search(rf"\?((?:{'|'.join(OPTIONS)})=.*|[^/?]*=[^/?]*)$", uri)
        place = uri[: query.start()] if query else uri
        options = dict(parse_qsl(query[1])) if query else {}
        scheme, _, path = place.partition("://")
        bucket, slash, prefix = path.partition("/")
        if "@" in bucket or any("key" in name or "token" in name for name in options):
            rule = "credentials belong into the environment, not into an address"
            raise ConfigError([f"s3://{bucket.rpartition('@')[2]}{slash}{prefix}: {rule}"])
        if scheme != "s3" or not bucket:
            raise ConfigError([f"{uri}: must be s3://BUCKET/PREFIX"])
        if unknown := sorted(options.keys() - {*OPTIONS}):
            raise ConfigError([f"{uri}: {unknown[0]}: must be one of {', '.join(OPTIONS)}"])
        given = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        if given and "endpoint_override" not in options:
            at = urlsplit(given if "//" in given else f"//{given}")
            if "@" in at.netloc:
                raise ConfigError(["AWS_ENDPOINT_URL: must not hold credentials"])
            options |= {"endpoint_override": at.netloc, "scheme": at.scheme or "https"}
        return cls(path.rstrip("/"), **options)

    @property
    def uri(self) -> str:
        """Whole: another machine reaches the same place with it."""
        options = {name: getattr(self, name) for name in OPTIONS if getattr(self, name)}
        query = f"?{urlencode(options, safe=':')}" if options else ""
        return f"s3://{self.path}{query}"

    def __truediv__(self, name: str) -> "Remote":
        return replace(self, path=f"{self.path}/{name}")

    @property
    def parent(self) -> "Remote":
        return replace(self, path=self.path.rpartition("/")[0])

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    def __str__(self) -> str:
        return f"s3://{self.path}"

    @property
    def _files(self) -> Any:
        return _file_system(self.endpoint_override, self.scheme, self.region)

    def check(self) -> None:
        """Make sure that the bucket is there: a listing of none is merely empty.

        Raises:
            ConfigError: It is not.
            OSError: S3 does not answer, or refuses.
        """
        from pyarrow.fs import FileType

        bucket = self.path.partition("/")[0]
        if self._files.get_file_info(bucket).type == FileType.NotFound:
            raise ConfigError([f"{self}: no bucket {bucket}{self._at()}"])

    def _at(self) -> str:
        return f" at {self.endpoint_override}" if self.endpoint_override else ""

    def put(self, key: str, content: bytes) -> None:
        """Write an object.

        Raises:
            OSError: S3 does not answer, or refuses.
        """
        with self._files.open_output_stream(f"{self.path}/{key}") as stream:
            stream.write(content)

    def upload(self, key: str, path: Path) -> int:
        """Write an object from a file, and return its bytes.

        Raises:
            FileNotFoundError: There is no such file any more.
            OSError: S3 does not answer, or refuses.
        """
        import pyarrow as pa

        # Mapped: a stream that were closed after a failed read would leave half an object.
        with pa.memory_map(str(path)) as file:
            content = file.read_buffer() if file.size() else b""
            with self._files.open_output_stream(f"{self.path}/{key}") as stream:
                stream.write(content)
            return len(content)

    def get(self, key: str) -> bytes | None:
        """Return an object's content, None if there is none.

        Raises:
            OSError: S3 does not answer, or refuses.
        """
        try:
            with self._files.open_input_file(f"{self.path}/{key}") as stream:
                content: bytes = stream.read()
        except FileNotFoundError:
            return None
        return content

    def download(self, key: str, path: Path) -> None:
        """Write an object into a file, which is there completely or not at all.

        Raises:
            FileNotFoundError: There is no such object.
            OSError: S3 does not answer, or refuses, or the disk is full.
        """
        path.parent.mkdir(parents=True, exist_ok=True)

        def write(temporary: Path) -> None:
            with (
                self._files.open_input_file(f"{self.path}/{key}") as stream,
                temporary.open("wb") as file,
            ):
                while piece := stream.read(8 << 20):
                    file.write(piece)

        write_atomically(path, write)

    def entries(self, folder: str = "") -> list[Entry]:
        """Return all objects below a prefix that ends where a name does.

        Raises:
            OSError: S3 does not answer, or refuses.
        """
        from pyarrow.fs import FileSelector, FileType

        at = f"{self.path}/{folder}".rstrip("/")
        selector = FileSelector(at, recursive=True, allow_not_found=True)
        return [
            Entry(info.path[len(self.path) + 1 :], info.size, info.mtime.timestamp())
            for info in self._files.get_file_info(selector)
            if info.type == FileType.File
        ]

    def names(self) -> list[str]:
        """Return what lies here, as a folder's names.

        Raises:
            OSError: S3 does not answer, or refuses.
        """
        from pyarrow.fs import FileSelector

        selector = FileSelector(self.path, allow_not_found=True)
        return [info.base_name for info in self._files.get_file_info(selector)]

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; one that is not there is none the less.

        Raises:
            OSError: S3 does not answer, or refuses.
        """

        def delete_one(key: str) -> None:
            with suppress(FileNotFoundError):
                self._files.delete_file(f"{self.path}/{key}")

        in_parallel(delete_one, keys)


def below(folder: Path, name: str) -> Path:
    """Return the file in a folder for an object, whose name others gave.

    Raises:
        ValueError: It would lie elsewhere.
    """
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"{name}: would lie outside {folder}")
    return path


def in_parallel(do: Any, items: Iterable[Any]) -> list[Any]:
    """Return what a function of S3 returns for each item, in order; the first error is raised."""
    items = list(items)
    if len(items) < 2:
        return [do(item) for item in items]
    with ThreadPoolExecutor(min(AT_ONCE, len(items))) as pool:
        return list(pool.map(do, items))


@cache
def _file_system(endpoint_override: str, scheme: str, region: str) -> Any:
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    return S3FileSystem(
        endpoint_override=endpoint_override or None,
        scheme=scheme or None,
        region=region or None,
        allow_delayed_open=True,  # a small object is one request
        request_timeout=TIMEOUT_S,
        connect_timeout=TIMEOUT_S,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=2),  # we try again ourselves
    )


def folder_of(remote: Remote, kind: str) -> Path:
    """Return the folder on this machine for a kind of copies of a place in S3."""
    name = quote(remote.path, safe="").replace("%", "-")[-60:]
    return cache_folder() / kind / f"{name}-{hashlib.sha256(remote.uri.encode()).hexdigest()[:8]}"


def mirror_of(remote: Remote) -> Path:
    """Return the folder on this machine that stands for a place in S3, and make it.

    Raises:
        OSError: It cannot be written.
    """
    folder = folder_of(remote, "runs")
    if not (folder / MARK).exists():
        folder.mkdir(parents=True, exist_ok=True)
        text = to_json({"uri": remote.uri, "mirror": uuid.uuid4().hex[:8]}, indent=None)
        write_atomically(folder / MARK, lambda temporary: temporary.write_text(text))
    return folder


def remote_of(folder: Path) -> Remote | None:
    """Return the place in S3 for which a folder, of all studies or of one, stands; else None."""
    if mark := place_mark(folder):
        return Remote.parse(mark["uri"])
    if mark := place_mark(folder.absolute().parent):
        return Remote.parse(mark["uri"]) / folder.name
    return None


def place_mark(folder: Path) -> dict[str, str] | None:
    """Return what a mirror folder says of its place, `uri` and `mirror`; None for another."""
    try:
        return from_json((folder / MARK).read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
