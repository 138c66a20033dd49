"""Who is test, and who is in which fold: by patient, stratified by lesion volume, seeded."""

from collections.abc import Mapping

import numpy as np

from trainer.data.store import NUM_FOLDS

TEST_SHARE = 1 / 5


def make_splits(lesion_ml: Mapping[str, float], seed: int) -> dict[str, int | None]:
    """Draw a fifth of the cases for test and deal the rest into five folds.

    Cases are sorted by lesion volume. Of each run of about five neighbours one is drawn for test;
    then each run of five gets the five folds in random order. So every part spans the volumes.

    Args:
        lesion_ml: Lesion volume by case.
        seed: The same seed and volumes give the same splits.

    Returns:
        By case: its fold, or None for test. With fewer than seven cases some folds are empty,
        fold 0 never; with fewer than three there is no test case.
    """
    random = np.random.default_rng([seed, 0x5EED])
    cases = sorted(lesion_ml, key=lambda case: (lesion_ml[case], case))
    num_test = round(TEST_SHARE * len(cases)) if len(cases) > 2 else 0
    runs = np.array_split(np.arange(len(cases)), num_test) if num_test else []
    test = {cases[random.choice(run)] for run in runs}
    folds: dict[str, int | None] = dict.fromkeys(test)

    rest = [case for case in cases if case not in test]
    for first in range(0, len(rest), NUM_FOLDS):
        run = rest[first : first + NUM_FOLDS]
        # An incomplete first run is all there is: it fills the first folds, so that fold 0 works.
        order = random.permutation(NUM_FOLDS if first else len(run))
        folds |= {case: int(fold) for case, fold in zip(run, order, strict=False)}
    return folds
