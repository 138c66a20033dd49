"""All problems by name, those for tuning constants apart from those that are read once."""

from collections.abc import Callable

from tests.bench.search.problems.crossing import Crossing
from tests.bench.search.problems.digits import Digits
from tests.bench.search.problems.fcnet import FCNet
from tests.bench.search.problems.hartmann import Hartmann
from tests.bench.search.problems.hpobench import HPOBench
from tests.bench.search.problems.lesions import lesions
from tests.bench.search.problems.nasbench import NASBench
from tests.bench.search.problems.phantom import Phantom
from tests.bench.search.problems.problem import Problem

Makers = dict[str, Callable[[], Problem]]

TRAIN: Makers = {
    "phantom": Phantom,
    "fcnet-naval": lambda: FCNet("naval_propulsion"),
    "fcnet-protein": lambda: FCNet("protein_structure"),
    "hartmann3": lambda: Hartmann(3),
    "hpobench-phoneme": lambda: HPOBench("phoneme"),
    "nasbench-cifar100": lambda: NASBench("cifar100"),
    "lesions-a": lambda: lesions("a"),
    "crossing-a": lambda: Crossing("a", against=0.6),
}
"""Constants of a method may be tuned on these."""
TEST: Makers = {
    "fcnet-parkinsons": lambda: FCNet("parkinsons_telemonitoring"),
    "fcnet-slice": lambda: FCNet("slice_localization"),
    "hartmann6": lambda: Hartmann(6),
    "hpobench-kc1": lambda: HPOBench("kc1"),
    "nasbench-imagenet": lambda: NASBench("imagenet"),
    "lesions-b": lambda: lesions("b"),
    "crossing-b": lambda: Crossing("b", against=0.8),
    "digits": Digits,
}
"""For the verdict: no constant may be chosen by them."""
PROBLEMS: Makers = TRAIN | TEST
