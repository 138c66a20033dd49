"""Study files that are wrong, and what the line about each must say."""

from collections.abc import Callable
from pathlib import Path

from tests.badinput.sound_study import BASE, batch, fraction, grid, lr, put
from tests.badinput.wrong_ranges import RANGES
from tests.badinput.wrong_settings import KEYS, TYPES

LAUGHS = "a0: &a0 [lol, lol]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
"""Nine to the power of eleven words, in half a kilobyte."""

MERGED_LAUGHS = "a0: &a0 {k0: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}], k{n}: 1}}\n" for n in range(1, 12)
)

CONDITIONS: dict[str, tuple[str, str]] = {
    "on nothing": (fraction("{loss.wighting: [warm_in]}"), "did you mean loss.weighting"),
    "on a value that is never": (fraction("{loss.weighting: [warm_on]}"), "did you mean warm_in"),
    "without values": (fraction("{loss.weighting: []}"), "at least one value"),
    "a value and no list": (
        fraction("{loss.weighting: warm_in}"),
        r"when\.loss\.weighting: 'warm_in': must be",
    ),
    "a number": (fraction("3"), "when: 3: must be a valid dictionary"),
    "a list": (fraction("[loss.weighting]"), r"when: .*must be a valid dictionary"),
    "text": (fraction("loss.weighting == warm_in"), r"when: .*must be a valid dictionary"),
    "null": (fraction("{loss.weighting: }"), r"when\.loss\.weighting: None: must be"),
    "of mappings": (
        fraction("{loss.weighting: [{a: 1}]}"),
        r"when\.loss\.weighting\.0: .*must be a value or a list of values",
    ),
    "on itself": (
        fraction("{loss.warm_in_fraction: [0.2]}"),
        r"circle of conditions: loss\.warm_in_fraction -> loss\.warm_in_fraction",
    ),
    "on each other": (
        put(
            "choices: [fixed, warm_in]",
            "choices: [fixed, warm_in], when: {loss.warm_in_fraction: [0.2]}",
        ),
        "circle of conditions",
    ),
    "in a loop of three": (
        put(
            "choices: [fixed, warm_in]", "choices: [fixed, warm_in], when: {batch.effective: [2]}"
        ).replace("choices: [2, 4]", "choices: [2, 4], when: {loss.warm_in_fraction: [0.2]}"),
        "circle of conditions",
    ),
    "that exclude each other": (
        put(
            "choices: [fixed, warm_in]", "choices: [fixed, warm_in], when: {batch.effective: [2]}"
        ).replace(
            "when: {loss.weighting: [warm_in]}",
            "when: {loss.weighting: [warm_in], batch.effective: [4]}",
        ),
        "exclude each other",
    ),
    "outside a range": (
        put("choices: [2, 4]", "choices: [2, 4], when: {optimizer.lr: [9]}"),
        "never has it",
    ),
    "of NaN": (
        put("choices: [2, 4]", "choices: [2, 4], when: {optimizer.lr: [.nan]}"),
        r"when\.optimizer\.lr\.0.*: nan: must be",
    ),
    "on a key that is a number": (fraction("{1: [2]}"), "must be text"),
    "on null": (fraction("{null: [2]}"), "must be text"),
    "an unmet condition": (
        put("optimizer.lr: 1e-3,", "loss.weighting: fixed, loss.warm_in_fraction: 0.2,"),
        "only when",
    ),
    "a missing condition": (
        put("optimizer.lr: 1e-3,", "loss.warm_in_fraction: 0.2,"),
        "only when",
    ),
}

NAMES: dict[str, tuple[str, str]] = {
    f"named {name!r:.40}": (
        put("study: demo", f"study: {yaml}"),
        "study: .*must be (letters, digits|a valid string)",
    )
    for name, yaml in {
        "..": "'..'",
        ".": "'.'",
        "../up": "../up",
        "/etc": "/etc",
        "a/b": "a/b",
        "a\\b": "'a\\b'",
        ".hidden": ".hidden",
        "-rf": "-rf",
        "~": "'~'",
        "a b": "a b",
        "a\nb": '"a\\nb"',
        "trailing newline": '"demo\\n"',
        "a NUL": '"a\\0b"',
        "größe": "größe",
        "卒中": "卒中",
        "arabic digits": "'٣'",
        "an emoji": "'🧠'",
        "right to left": '"a\\u202Eb"',
        "$HOME": "$HOME",
        "a;b": "a;b",
        "256 letters": "x" * 256,
        "100000 letters": "x" * 100_000,
        "true": "true",
    }.items()
}

FILES: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "mapping"),
    "only a comment": ("# nothing\n", "mapping"),
    "a list": ("- a\n- b\n", "mapping"),
    "a number": ("3\n", "mapping"),
    "text": ("hello\n", "mapping"),
    "null": ("null\n", "mapping"),
    "two documents": (BASE + "---\n" + BASE, "not YAML"),
    "a tab": (BASE.replace("  model.width", "\tmodel.width"), "not YAML"),
    "a NUL byte": (BASE.encode() + b"\0", "not YAML"),
    "a bell": (BASE.encode() + b"# \x07\n", "not YAML"),
    "UTF-16": (BASE.encode("utf-16"), "not YAML"),
    "UTF-16 without a mark": (BASE.encode("utf-16-le"), "not YAML"),
    "UTF-32": (BASE.encode("utf-32"), "not YAML"),
    "Latin-1": ((BASE + "# Größe\n").encode("latin-1"), "not YAML"),
    "binary": (bytes(range(256)) * 8, "not YAML"),
    "a gzip file": (b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + bytes(50), "not YAML"),
    "JSON cut short": ('{"study": "demo", "data": {', "not YAML"),
    "an open quote": (BASE + 'a: "b\n', "not YAML"),
    "an open bracket": (BASE + "a: [b\n", "not YAML"),
    "a wrong indent": (BASE.replace("  model.width", " model.width"), "not YAML"),
    "an unknown anchor": (BASE + "a: *nowhere\n", "not YAML"),
    "a Python object": (BASE + "a: !!python/object/apply:os.system [true]\n", "not YAML"),
    "a Python name": (put("study: demo", "study: !!python/name:os.system"), "not YAML"),
    "an unknown tag": (BASE + "a: !unknown 3\n", "not YAML"),
    "a number that is none": (BASE + "a: !!int three\n", "must be decimal"),
    "another number that is none": (
        BASE + "a: !!float three\n",
        "line 21: 'three': must be a number",
    ),
    "a truth that is none": (BASE + "a: !!bool maybe\n", "line 21: 'maybe': must be true or false"),
    "binary that is none": (BASE + "a: !!binary ö\n", "not YAML"),
    "an octal number": (BASE.replace("width: 8", "width: 010"), "line 5: '010': must be decimal"),
    "a date of text": (BASE + "a: !!timestamp soon\n", "line 21: 'soon': must be a date"),
    "an integer that is a list": (BASE + "a: !!int [1]\n", "not YAML"),
    "a date that is none": (
        BASE + "a: !!timestamp 2024-99-99\n",
        "line 21: '2024-99-99': must be a date",
    ),
    "a billion laughs": (LAUGHS + BASE, "keys and values, but may have 10000"),
    "a billion laughs as a choice": (
        LAUGHS + batch("{type: categorical, choices: [*a11, 2]}"),
        "keys and values, but may have 10000",
    ),
    "a billion laughs as a name": (
        LAUGHS + put("study: demo", "study: *a11"),
        "keys and values, but may have 10000",
    ),
    "a billion laughs as a width": (
        LAUGHS + put("model.width: 8", "model.width: *a11"),
        "keys and values, but may have 10000",
    ),
    "a billion laughs merged": (MERGED_LAUGHS + BASE, "keys and values, but may have 10000"),
    "a mapping in itself": ("a: &a {b: *a}\n" + BASE, "line 1: holds itself"),
    "a list in itself": ("a: &a [*a]\n" + BASE, "line 1: holds itself"),
    "train in itself": (BASE.replace("train:\n", "train: &t\n  x: *t\n"), "line 3: holds itself"),
    "space in itself": (BASE.replace("space:\n", "space: &t\n  x: *t\n"), "line 10: holds itself"),
    "a choice in itself": (
        batch("{type: categorical, choices: &c [*c, 2]}"),
        "line 12: holds itself",
    ),
    "a merge in itself": (
        BASE.replace("train:\n", "train: &t\n  <<: *t\n"),
        "line 3: holds itself",
    ),
    "merge of a number": (BASE + "<<: 3\n", "not YAML"),
    "10000 brackets": (
        BASE + "a: " + "[" * 10_000 + "]" * 10_000 + "\n",
        "nested more than 50 deep",
    ),
    "10000 mappings": (
        BASE + "a: " + "{a: " * 10_000 + "1" + "}" * 10_000 + "\n",
        "nested more than 50 deep",
    ),
    "300 mappings in train": (
        put("epoch_images: 8", "a: " + "{a: " * 300 + "1" + "}" * 300 + "\n  epoch_images: 8"),
        "line 9: is nested more than 50 deep",
    ),
    "a key of 90 dots": (
        put("epoch_images: 8", "a." * 90 + "a: 1\n  epoch_images: 8"),
        r"train(\.a)+: no such key",
    ),
    "a key of 100000 dots": (
        put("epoch_images: 8", "? " + "a." * 100_000 + "a\n  : 1\n  epoch_images: 8"),
        "must have at most 200 characters",
    ),
    "a line of 3 MB": (
        BASE + "a: " + "x" * 3_000_000 + "\n",
        "has 1048577 characters, but may have 1048576",
    ),
    "20000 lines": (BASE + "a:\n" + "  - b\n" * 20_000, "keys and values, but may have 10000"),
}

SOUND: dict[str, str] = {
    "as it is": BASE,
    "with a byte-order mark": "\ufeff" + BASE,
    "with Windows' lines": BASE.replace("\n", "\r\n"),
    "with anchors": put("optimizer.lr: {type", "optimizer.lr: &lr {type"),
    "with merges": put(
        "{optimizer.lr: 1e-3, batch.effective: 2}",
        "&e {optimizer.lr: 1e-3}\n  - {<<: *e, batch.effective: 2}",
    ),
    "with nested settings": put("model.width: 8", "model: {width: 8}"),
    "with 1e-4 in other words": lr("{type: float, low: 1.0E-4, high: +1e-2, log: true}"),
    "as JSON": put("{store: STORE, fold: 0}", '{"store": "STORE", "fold": 0}'),
    "named with 200 letters": put("study: demo", "study: " + "x" * 200),
    "with comments in any script": BASE + "# Größe 卒中 🧠\n",
    "named as a date": put("study: demo", "study: 2024-01-01"),
    "with quoted numbers": lr("{type: float, low: '1e-4', high: 1e-2}"),
    "with 1e9 epochs": grid("type: float, low: 1e-3, high: 4e-3, step: 1e-3").replace(
        "grace_period: 1, max_t: 3", "max_t: 1000000000"
    ),
    "with a grid of 1e9 points": grid("type: float, low: 1.0, high: 2.0, step: 0.000000001"),
    "with hexadecimal": put("model.width: 8", "model.width: 0x10"),
}

TABLES: dict[str, dict[str, tuple[str, str]] | dict[str, tuple[str | bytes, str]]] = {
    "keys": KEYS,
    "types": TYPES,
    "ranges": RANGES,
    "conditions": CONDITIONS,
    "names": NAMES,
    "files": FILES,
}


def _folder(path: Path) -> None:
    path.mkdir()


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _nothing(path: Path) -> None:
    pass


def _dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


PATHS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a folder": (_folder, "directory"),
    "missing": (_nothing, "No such file"),
    "a link to itself": (_loop, "symbolic links"),
    "a link to nowhere": (_dangling, "No such file"),
}

OVERRIDES: dict[str, str] = {
    "nonsense": "expected KEY=VALUE",
    "=3": "expected KEY=VALUE",
    "": "expected KEY=VALUE",
    "=": "expected KEY=VALUE",
    "seed=[": "not YAML",
    "seed={a: 1, a: 2}": "given twice",
    "seed=!!python/name:os.system": "not YAML",
    "seed=": "seed: None: must be a valid integer",
    "seed=zero": "seed: 'zero': must be a valid integer",
    "seed=true": "seed: true: must be a number",
    "seed=-1": "seed: -1: must be greater than or equal to 0",
    "seed=1.5": "seed: 1.5: must be a valid integer",
    "seed=.nan": "seed: nan: must be a finite number",
    "seed.x=1": "seed: {'x': 1}: must be a valid integer",
    "sede=1": "did you mean seed",
    "scheduler.mxt=3": "did you mean scheduler.max_t",
    "scheduler=3": "scheduler",
    "scheduler=null": "scheduler",
    "scheduler..max_t=3": "scheduler",
    "scheduler.=3": "scheduler",
    ".scheduler=3": "no such key",
    ".=3": "no such key",
    "train=3": "train: 3: must be a valid dictionary",
    "train.=3": "train: 3: must be a valid dictionary",
    "train.model=3": "train.model",
    "train.model.width=3": "model.width",
    "train.model.width=eight": "model.width",
    "train.model.width={a: 1}": "model.width",
    "train.model.width.x=3": "model.width",
    "train.nonsense=3": "nonsense",
    "train.epochs=3": "cannot be set here",
    "space=3": "space: 3: must be a valid dictionary",
    "space=null": "space: None: must be a valid dictionary",
    "space.=3": "space: 3: must be a valid dictionary",
    "space.optimizer.lr=3": "space.optimizer.lr",
    "space.optimizer.rl=null": "did you mean",
    "space.optimizer.rl.low=3": "did you mean",
    "space.optimizer.lr.lw=3": "no such key",
    "space.optimizer.lr.low=9": "must be below high",
    "space.optimizer.lr.low=.nan": "nan: must be a finite number",
    "space.optimizer.lr.low=": "low: required for a float",
    "space.optimizer.lr.low.x=3": "{'x': 3}: must be",
    "space.optimizer.lr.when.nothing=[1]": "no such dimension",
    "space.optimizer.lr.when=3": "when: 3: must be a valid dictionary",
    "space.batch.effective.choices=3": "choices",
    "space.batch.effective.choices.x=3": "choices",
    "space.loss.weighting=null": "no such dimension",
    "enqueue=3": "enqueue",
    "enqueue.0=3": "enqueue",
    "enqueue.0.optimizer.lr=3": "enqueue",
    "control=3": "control",
    "control.x=3": "control",
    "objective.metric=dice": "did you mean val/dice",
    "trials.num_trials=1e9": "num_trials",
    "trials.num_trials=1e999": "num_trials",
    "trials.num_trials=0x" + "f" * 5000: "num_trials",
    "data.store=": "data.store",
    "data.store=/nowhere": "not a prepared store",
    "study=../up": "study: '../up': must be letters, digits",
    "study=" + "x" * 3000: "must be letters, digits",
    "größe=1": "no such key",
    "a." * 3000 + "a=1": "at most 200",
    "train." + "a." * 3000 + "a=1": "at most 200",
    "data." + "a." * 3000 + "a=1": "at most 200",
    "seed=" + "[" * 5000 + "]" * 5000: "nested more than 50 deep",
}
"""By the word, what the line about it must say."""
