"""Other ways to say which settings mattered; each returns those that it says did."""

import warnings
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from search.analysis.importance import MIN_TRIALS, p_values, shapes_of
from trainer.randomness import generator

ALPHA = 0.05
Values = NDArray[np.float64]
Scores = Mapping[str, float]


class Table(NamedTuple):
    """What is known of a study."""

    columns: Mapping[str, Values]
    """Each setting's position, (trials,), NaN where a trial has none; none with a single value."""
    choices: set[str]
    """The categoricals."""
    target: Values
    """(trials,)."""
    seed: int

    @property
    def unconditional(self) -> dict[str, Values]:
        return {name: c for name, c in self.columns.items() if not np.isnan(c).any()}


def ours(table: Table) -> set[str]:
    """Return what search/analysis/importance.py says."""
    shapes = {
        name: shapes_of(column, is_choice=name in table.choices)
        for name, column in table.columns.items()
        if (~np.isnan(column)).sum() >= MIN_TRIALS
    }
    found = p_values(shapes, table.target, table.seed)
    return {name for name, p in found.items() if p <= ALPHA}


def rank_tests(table: Table) -> set[str]:
    """Kruskal-Wallis by choice, Mann-Whitney for two, Spearman for numbers; Holm."""
    from scipy import stats

    ps = {}
    for name, column in table.columns.items():
        has = ~np.isnan(column)
        column, target = column[has], table.target[has]
        groups = [target[column == choice] for choice in np.unique(column)]
        if has.sum() < 4 or len(groups) < 2:
            continue
        if name not in table.choices:
            ps[name] = float(stats.spearmanr(column, target).pvalue)
        elif len(groups) == 2:
            ps[name] = float(stats.mannwhitneyu(*groups).pvalue)
        else:
            ps[name] = float(stats.kruskal(*groups).pvalue)
    found = set()
    for tested, name in enumerate(sorted(ps, key=lambda name: ps[name])):
        if ps[name] * (len(ps) - tested) > ALPHA:
            break
        found.add(name)
    return found


def _largest(
    score: Callable[[Values], Scores], target: Values, seed: int, shuffles: int
) -> set[str]:
    """Return the settings whose score beats the largest of any on shuffled values (max-T)."""
    rng = generator(seed, "bench/importance")
    largest = np.array([max(score(rng.permutation(target)).values()) for _ in range(shuffles)])
    return {
        name
        for name, found in score(target).items()
        if (1 + (largest >= found).sum()) / (1 + shuffles) <= ALPHA
    }


def gaussian_process(table: Table) -> set[str]:
    """Leave-one-out explained variance of a GP on each setting alone; max-T."""
    return _of_kernels(table, lambda kernels: kernels)


def gaussian_process_of_all(table: Table) -> set[str]:
    """What a GP on all settings explains, left one out, beyond one without the setting; max-T."""
    return _of_kernels(
        table,
        lambda kernels: {
            name: reduce(np.multiply, [k for other, k in kernels.items() if other != name])
            for name in kernels
        },
        beyond=True,
    )


def _of_kernels(
    table: Table,
    combined: Callable[[dict[str, Values]], dict[str, Values]],
    *,
    beyond: bool = False,
) -> set[str]:
    kernels = {}
    for name, column in table.columns.items():
        distances = np.nan_to_num(column[:, None] - column[None], nan=1.0)
        if name in table.choices:
            distances = 0.7 * (distances != 0)
        np.fill_diagonal(distances, 0)
        kernels[name] = np.exp(-0.5 * (distances / 0.35) ** 2)
    inverses = {name: _inverse(kernel) for name, kernel in combined(kernels).items()}
    of_all = _inverse(reduce(np.multiply, kernels.values()))

    def explained(inverse: Values, target: Values) -> float:
        errors = inverse @ target / np.diag(inverse)
        return 1 - float(errors @ errors / (target @ target))

    def score(target: Values) -> Scores:
        with_all = explained(of_all, target) if beyond else 0.0
        sign = -1 if beyond else 1
        return {n: with_all + sign * explained(i, target) for n, i in inverses.items()}

    return _largest(score, table.target - table.target.mean(), table.seed, 400)


def _inverse(kernel: Values) -> Values:
    return np.asarray(np.linalg.inv(kernel + 0.5 * np.eye(len(kernel))), dtype=np.float64)


def forest(table: Table, *, trees: int = 20, shuffles: int = 99) -> set[str]:
    """How much worse a forest's out-of-bag error is with a setting permuted; max-T."""
    from sklearn.tree import DecisionTreeRegressor

    rng = generator(table.seed, "bench/forest")
    columns, owners = [], []
    for name, column in table.columns.items():
        kinds = np.unique(column[~np.isnan(column)]) if name in table.choices else [None]
        for kind in kinds:
            columns.append(np.nan_to_num(column, nan=-1.0) if kind is None else column == kind)
            owners.append(name)
    data, owner = np.stack(columns, axis=1).astype(np.float32), np.array(owners)
    number, bags = len(data), []
    for _ in range(trees):
        bag = rng.integers(number, size=number)
        out = np.setdiff1d(np.arange(number), bag)
        mixed = {}
        for name in table.columns:
            mixed[name] = data[out].copy()
            mixed[name][:, owner == name] = data[rng.permutation(out)][:, owner == name]
        bags.append((bag, out, mixed))

    def score(target: Values) -> Scores:
        scores = dict.fromkeys(table.columns, 0.0)
        for index, (bag, out, mixed) in enumerate(bags):
            tree = DecisionTreeRegressor(min_samples_leaf=2, max_features=0.7, random_state=index)
            tree.fit(data[bag], target[bag], check_input=False)

            usual = _squared(tree, data[out], target[out])
            for name in scores:
                scores[name] += _squared(tree, mixed[name], target[out]) - usual
        return scores

    return _largest(score, table.target, table.seed, shuffles)


def _squared(tree: Any, rows: NDArray[np.float32], truth: Values) -> float:
    """Return the squared error of a tree of sklearn's."""
    return float(((tree.tree_.predict(rows)[:, 0] - truth) ** 2).sum())


def ped_anova(table: Table, *, shuffles: int = 99) -> set[str]:
    """Optuna's PED-ANOVA of the settings without condition, which are all it knows; max-T."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    columns = table.unconditional
    kinds: dict[str, optuna.distributions.BaseDistribution] = {
        name: optuna.distributions.CategoricalDistribution(np.unique(column).tolist())
        if name in table.choices
        else optuna.distributions.FloatDistribution(0.0, 1.0)
        for name, column in columns.items()
    }
    rows = [
        dict(zip(columns, values, strict=True))
        for values in np.stack([*columns.values()], axis=1).tolist()
    ]
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()

    def score(target: Values) -> Scores:
        study = optuna.create_study(direction="maximize")
        study.add_trials(
            optuna.trial.create_trial(params=row, distributions=kinds, value=value)
            for row, value in zip(rows, target.tolist(), strict=True)
        )
        return evaluator.evaluate(study)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _largest(score, table.target, table.seed, shuffles)


def fanova(table: Table, *, trees: int = 200) -> set[str]:
    """What 0.2.0.dev had before: shares by fANOVA beyond those of shuffled copies, and whether
    their interval by the infinitesimal jackknife lies above 0. Of settings without condition.
    """
    columns, rng = table.unconditional, generator(table.seed, "bench/fanova")
    data = np.stack([*columns.values()], axis=1)
    both = np.hstack([data, rng.permuted(data, axis=0)])
    number, width = data.shape
    shares, counts = np.zeros((trees, width)), np.zeros((trees, number))
    for tree in range(trees):
        picks = rng.integers(number, size=number)
        counts[tree] = np.bincount(picks, minlength=number)
        found = _shares(
            both[picks], table.target[picks], [n in table.choices for n in columns], tree
        )
        shares[tree] = found[:width] - found[width:]
    deviations = shares - shares.mean(axis=0)
    spread = (deviations**2).mean(axis=0)
    covariances = (counts - counts.mean(axis=0)).T @ deviations / trees
    variance = np.maximum((covariances**2).sum(axis=0) - number / trees * spread, 0)
    low = shares.mean(axis=0) - 1.96 * np.sqrt(variance + spread / trees)
    return {name for name, end in zip(columns, low, strict=True) if end > 0}


def _shares(data: Values, target: Values, is_choice: list[bool], seed: int) -> Values:
    """Return Optuna's fANOVA by one tree, choices in the order of their means (Fisher 1958)."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    names, data = [str(i) for i in range(data.shape[1])], data.copy()
    for index, choices in enumerate(is_choice * 2):
        if choices:
            _, kind = np.unique(data[:, index], return_inverse=True)
            means = np.bincount(kind, weights=target) / np.bincount(kind)
            data[:, index] = (np.argsort(np.argsort(means))[kind] + 0.5) / len(means)
    kinds: dict[str, optuna.distributions.BaseDistribution] = dict.fromkeys(
        names, optuna.distributions.FloatDistribution(0.0, 1.0)
    )
    study = optuna.create_study()
    study.add_trials(
        optuna.trial.create_trial(
            params=dict(zip(names, row, strict=True)), distributions=kinds, value=value
        )
        for row, value in zip(data.tolist(), target.tolist(), strict=True)
    )
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=1, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = optuna.importance.get_param_importances(
                study, evaluator=evaluator, params=names, normalize=False
            )
        except RuntimeError:  # the tree is a single leaf
            return np.zeros(len(names))
    return np.array([found[name] for name in names])


METHODS: dict[str, Callable[[Table], set[str]]] = {
    "permutation": ours,
    "ranks": rank_tests,
    "GP alone": gaussian_process,
    "GP of all": gaussian_process_of_all,
    "forest": forest,
    "PED-ANOVA": ped_anova,
    "fANOVA": fanova,
}
