"""Files of a study under pseudonyms, and the search for names that are left in an archive."""

import io
import json
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import yaml

from search.ledger.line import SEAL_SIZE, decode, encode, seal
from search.storage.archives.reader import Archive
from search.workflows.archive.pseudonyms import Pseudonyms
from trainer.configfile import ConfigError, flatten
from trainer.files.damaged import cases_in
from trainer.files.documents import to_json

OF_IMAGES = ("clinical", "fingerprint", "arrays_hash", "images_hash", "first")
"""Of a case in a store's manifest: what its patient's table says, and what tells it to whoever has
the images, or the order of the names."""


def names_in_events(value: Any, *, within: bool = False) -> Iterator[str]:
    """Yield the names of cases that a ledger's event, or another JSON value, has."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            if key in ("case_id", "patient") and isinstance(each, str):
                yield each
            elif isinstance(each, list) and (
                key == "missing" or (key == "names" and value.get("event") == "cases")
            ):
                yield from (name for name in each if isinstance(name, str))
            elif key == "dice" and isinstance(each, Mapping):
                yield from map(str, each)
            else:
                yield from names_in_events(each)
    elif isinstance(value, list):
        for each in value:
            yield from names_in_events(each)


def names_in_manifest(manifest: Mapping[str, Any]) -> set[str]:
    """Return the names of a store's cases and patients."""
    names = {case["case_id"] for case in manifest["cases"]}
    names |= {case["patient"] for case in manifest["cases"] if case.get("patient")}
    elsewhere = manifest.get("elsewhere", {})
    names |= {*elsewhere} | {about["patient"] for about in elsewhere.values()}
    splits = manifest["splits"]
    return names | {*splits["test"], *(case for fold in splits["folds"] for case in fold)}


def names_in_cases(path: Path) -> set[str]:
    """Return the names of a cases.parquet; none where it is not there, or damaged.

    Raises:
        OSError: It cannot be read.
    """
    table = cases_in(path) if path.is_file() else None
    return set() if table is None else {str(name) for name in table["case_id"].to_pylist()}


def ledger_lines(content: bytes, pseudonyms: Pseudonyms) -> Iterator[bytes]:
    """Yield a ledger's lines, sealed anew; pictures are named after cases, and not named.

    A list of cases is sorted anew, since the order of their names would tell of these, and with it
    all scores that lie in its order.

    Raises:
        ConfigError: Names are words of the settings, so that it would be another study.
    """
    orders: dict[int, list[int]] = {}
    for line in content.splitlines():
        before = _plain(line)
        event = pseudonyms.value(before)
        if before["event"] == "cases":
            names = [pseudonyms.text(name, key="names") for name in before["names"]]
            order = orders[before["case_list"]] = sorted(range(len(names)), key=names.__getitem__)
            event["names"] = [names[place] for place in order]
        elif before.get("case_scores") is not None:
            scores = before["case_scores"]
            event["case_scores"] = [scores[place] for place in orders[before["case_list"]]]
        elif before["event"] == "redrawn":
            order = orders[before["case_list"]]
            event["draws"] = [[draw[place] for place in order] for draw in before["draws"]]
        if _meaning(event) != _meaning(before):
            name = next(pseudonyms.left_in(_meaning(before)), "")
            rule = "a case is called as a word of the study's settings, which must stay"
            raise ConfigError([f"--pseudonyms: {name!r}: {rule}: nothing was written"])
        if event["event"] == "painted":
            event["files"] = []
        yield seal(encode(event))


def _meaning(event: Mapping[str, Any]) -> list[Any]:
    """Return the words of an event that are none of a case."""
    config, settings = event.get("config", {}), event.get("settings", {})
    return [
        event["event"],
        [*event, *config, *flatten(config), *flatten(settings)],
        event.get("params"),
        config.get("space"),
        [*event.get("metrics", {})],
    ]


def _plain(line: bytes) -> dict[str, Any]:
    """Return a sound line as JSON reads it: infinities stay the words that stand for them."""
    event: dict[str, Any] = json.loads(line[:-SEAL_SIZE].decode() + "}")
    return event


def manifest_file(manifest: Mapping[str, Any], pseudonyms: Pseudonyms) -> bytes:
    """Return a store's manifest under pseudonyms, to look at: nothing tells a patient's data."""
    cases = [{k: v for k, v in case.items() if k not in OF_IMAGES} for case in manifest["cases"]]
    values = {k: v for k, v in manifest.items() if k not in ("schema", "cases", "request")}
    return to_json(pseudonyms.value({**values, "cases": cases})).encode()


def yaml_file(content: bytes, pseudonyms: Pseudonyms) -> bytes:
    """Return settings under pseudonyms."""
    values = pseudonyms.value(yaml.safe_load(content))
    return yaml.safe_dump(values, sort_keys=False).encode()


def json_file(content: bytes, pseudonyms: Pseudonyms) -> bytes:
    """Return a JSON document, or one a line, under pseudonyms."""
    try:
        return json.dumps(pseudonyms.value(json.loads(content)), indent=2).encode()
    except json.JSONDecodeError:
        lines = [json.loads(line) for line in content.splitlines() if line.strip()]
        return b"".join(f"{json.dumps(pseudonyms.value(line))}\n".encode() for line in lines)


def cases_file(path: Path, pseudonyms: Pseudonyms) -> bytes:
    """Return a cases.parquet under pseudonyms, its rows sorted by these; empty where damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if (table := cases_in(path)) is None:
        return b""
    place = table.schema.get_field_index("case_id")
    names = [pseudonyms.text(str(name), key="case_id") for name in table["case_id"].to_pylist()]
    table = table.set_column(place, "case_id", pa.array(names, pa.string()))
    table = table.replace_schema_metadata(None).sort_by(
        [("epoch", "ascending"), ("case_id", "ascending")]
    )
    content = io.BytesIO()
    pq.write_table(table, content)
    return content.getvalue()


def weights_file(path: Path, pseudonyms: Pseudonyms, out: Path) -> None:
    """Write weights under pseudonyms: without the marks of those they were trained on.

    These are hashes of names, which tell a name to whoever guesses it. Beside the store the
    weights' settings say the same.

    Raises:
        Exception: Whatever torch raises of a damaged file.
    """
    from trainer.saved import checkpoint

    state = checkpoint.read(path)
    about = {key: value for key, value in state.items() if key not in ("ema", "trained_on")}
    checkpoint.write(out, {**state, **pseudonyms.value(about), "trained_on": None})


def check_none_is_left(archive: Archive, pseudonyms: Pseudonyms) -> None:
    """Search a finished archive for names.

    Raises:
        ConfigError: One is left, and where.
    """
    for name in archive.members:
        for value, key in _values(archive, name):
            if left := next(pseudonyms.left_in(value, key), None):
                raise ConfigError(
                    [f"--pseudonyms: {left!r} would be left in {name}: nothing was written"]
                )


def _values(archive: Archive, name: str) -> Iterable[tuple[Any, str]]:
    """Yield what a member says as JSON values, with the key that stands above each."""
    yield name, ""
    with tempfile.TemporaryFile() as file:
        for piece in archive.pieces(name):
            file.write(piece)
        file.seek(0)
        if name.endswith(".pt"):
            yield from ((text, "") for text in _texts_of_weights(file))
        elif name.endswith(".parquet"):
            yield from _texts_of_table(file)
        elif name.endswith("ledger.jsonl"):
            yield from ((decode(line.rstrip(b"\n")), "") for line in file)
        elif name.endswith((".jsonl", ".json")):
            yield from ((value, "") for value in _documents(file.read()))
        elif name.endswith(".yaml"):
            yield yaml.safe_load(file.read()), ""
        else:
            yield file.read().decode(), ""


def _documents(content: bytes) -> list[Any]:
    try:
        return [json.loads(content)]
    except json.JSONDecodeError:
        return [json.loads(line) for line in content.splitlines() if line.strip()]


def _texts_of_table(file: IO[bytes]) -> Iterator[tuple[Any, str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(file)
    for field in table.schema:
        yield field.name, ""
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            yield from ((text, field.name) for text in table[field.name].unique().to_pylist())


def _texts_of_weights(file: IO[bytes]) -> Iterator[str]:
    """Yield all that a file of weights has beside tensors' numbers."""
    with zipfile.ZipFile(file) as content:
        for info in content.infolist():
            yield info.filename
            if "/data/" not in info.filename:
                about = content.read(info)
                yield about.decode("latin-1")
                yield about.decode("utf-8", "ignore")
