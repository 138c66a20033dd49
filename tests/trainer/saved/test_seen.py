"""Whom weights were trained on, and whether those who judge them are among them."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.trainer.tiny import tiny_config
from trainer.data.store import MANIFEST, Store
from trainer.evaluation.evaluate import evaluate
from trainer.loop import fit
from trainer.saved.model_io import load, unseen
from trainer.saved.seen import ANYBODY, NOBODY, Seen, overlap, patients, sentence, trained_in


def case(name: str, fold: int | None = None, images: str | None = None, patient: str = ""):
    split = "test" if fold is None else "train"
    return {
        "case_id": name, "patient": patient, "split": split, "fold": fold, "images_hash": images
    }  # fmt: skip


STORE = patients(
    [case("a", 0), case("b", 0), case("c", 1), case("d", 1, "x"), case("e"), case("f")]
)


@pytest.mark.parametrize(
    "seen, said",
    [
        (NOBODY, ""),
        (NOBODY.also(trained_in(STORE, 0)), ""),
        (NOBODY.also(trained_in(STORE, 1)),
         "not unseen: its first weights were trained on 2 of 2 validation patients"),
        (NOBODY.also(patients([case("A", 0), case("e", 3), case("z", 2)])),
         "not unseen: its first weights were trained on 1 of 2 validation patients and 1 of 2 test "
         "patients"),
        (NOBODY.also(patients([case("scan7", 0, patient="f")])),
         "not unseen: its first weights were trained on 1 of 2 test patients"),
        (ANYBODY, "perhaps not unseen: whom its first weights were trained on is unknown, and "
         "validation and test patients may be among them"),
        (ANYBODY.also(patients([case("a", 0)])),
         "not unseen: its first weights were trained on 1 of 2 validation patients"),
        (Seen.parse(json.loads(json.dumps(NOBODY.also(trained_in(STORE, 0)).record()))), ""),
    ],
)  # fmt: skip
def test_an_overlap_in_words(seen, said):
    assert sentence(overlap(seen, STORE, 0)) == said


def test_a_patient_is_known_by_its_images_under_another_name():
    seen = NOBODY.also(patients([case("other", 0, "x")]))

    assert overlap(seen, STORE, 1)[:2] == (1, 2)


@pytest.mark.parametrize("saved", [None, {}, [], "x", {"marks": 3, "is_all": True}])
def test_a_file_that_does_not_say(saved):
    assert Seen.parse(saved) is None


def test_a_run_knows_whom_it_and_its_first_weights_were_trained_on(
    phantom_store: Path, tmp_path: Path
):
    list(fit(tiny_config(phantom_store, epochs=1), tmp_path / "first"))
    other = tmp_path / "other"  # of the same patients, with other folds
    shutil.copytree(phantom_store, other)
    manifest = json.loads((other / MANIFEST).read_text())
    for each in manifest["cases"]:
        each["fold"] = None if each["fold"] is None else (each["fold"] + 1) % 5
    (other / MANIFEST).write_text(json.dumps(manifest | {"content_hash": "0" * 64}))
    first = load(tmp_path / "first")

    config = tiny_config(other, epochs=1, init_from=str(tmp_path / "first"))
    list(fit(config, tmp_path / "second"))

    store, second = Store.open(other), load(tmp_path / "second")
    assert first.trained_on == NOBODY.also(
        trained_in(patients(map(vars, Store.open(phantom_store).cases)), 0)
    )
    assert second.trained_on is not None and first.trained_on is not None
    assert second.trained_on.marks > first.trained_on.marks
    count = len(store.split(0)[1])
    said = f"not unseen: its first weights were trained on {count} of {count} validation patients"
    assert unseen(first, Store.open(phantom_store)) == ""
    assert unseen(second, store) == said
    label = evaluate(second, store, tmp_path / "second", split="val").label
    assert label == f"validation fold 0: selected on, optimistic; {said}"

    early = tmp_path / "early"  # as a version wrote it that recorded nobody
    shutil.copytree(tmp_path / "first", early)
    saved = torch.load(early / "ema.pt", weights_only=True)
    del saved["trained_on"]
    torch.save(saved, early / "ema.pt")
    for where, expected in ((phantom_store, ""), (other, "perhaps not unseen: ")):
        config = tiny_config(where, epochs=0, init_from=str(early))
        list(fit(config, tmp_path / f"of {where.name}"))
        found = unseen(load(tmp_path / f"of {where.name}"), Store.open(where))
        assert found.startswith(expected) and bool(found) == bool(expected)
