"""Searches with known answers, a file a family."""

from tests.bench.search.problems.problem import (
    EPOCHS as EPOCHS,
)
from tests.bench.search.problems.problem import (
    Curve as Curve,
)
from tests.bench.search.problems.problem import (
    Params as Params,
)
from tests.bench.search.problems.problem import (
    Problem as Problem,
)
from tests.bench.search.problems.problem import (
    rng_of as rng_of,
)
