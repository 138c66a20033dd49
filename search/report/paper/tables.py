"""The tables of a paper: every score with its interval, and in the caption how it was selected."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from search.ledger.budget import HEADS
from search.ledger.state import threshold_rule
from search.report.leaderboard import readings_text
from search.report.leaderboard_columns import epochs_text
from search.report.paper.latex import Tex, capital, code, escape, table
from search.report.settings_text import param, settings_words
from search.report.verdicts import as_used_text, masks_text, metric_name, num_cases, opponent
from search.study.config import StudyConfig
from search.study.space import Dimension

MAX_ROWS = 20
"""Of the ranking; all trials are in trials.csv."""
NO_INTERVAL = "[--]"
USUAL = {"val/dice": "Dice", "val/avd_ml": "AVD, mL", "val/lesion_f1": "lesion F1"}
"""Metrics that stand in the table of references, by what they are called there."""
FOLDS = r">{\raggedright\arraybackslash}p{%s\linewidth}"
"""A column whose words may be on several lines."""
FORMS = {"val/dice": ".3f", "val/avd_ml": ".1f", "val/lesion_f1": ".3f"}
Result = Mapping[str, Any]


def score(value: float | None, ends: Sequence[float] | None, form: str = ".3f") -> Tex:
    """Return a mean with its interval; `[--]` where too few cases tell one, empty without a mean.

    Args:
        value: The mean.
        ends: Of the interval.
        form: Of all three.
    """
    if value is None:
        return Tex()
    mean, *interval = [f"{each:{form}}".replace("-", "$-$") for each in (value, *(ends or ()))]
    return Tex(f"{mean} [{', '.join(interval)}]" if interval else f"{mean} {NO_INTERVAL}")


def _score(row: Mapping[str, Any], metric: str, kept: Mapping[str, Any]) -> Tex:
    """Return a row's last value of a metric; without brackets where its cases are not kept.

    Args:
        row: Of `compare`.
        metric: Its name.
        kept: The intervals that are known, None for too few cases.
    """
    value, form = row["metrics"].get(metric), FORMS.get(metric, ".4g")
    if row["num_cases"] is not None:
        kept = {**kept, "val/dice": row["dice_interval"]}
    if value is None or metric in kept:
        return score(value, kept.get(metric), form)
    return Tex(f"{value:{form}}".replace("-", "$-$"))


def name_of(metric: str) -> str:
    """Return what a metric is called in a sentence."""
    return "Dice" if metric == "val/dice" else metric


def ranking(result: Result) -> Tex:
    """Return the best searched trials, with the settings that were searched."""
    ranked = [row for row in result["trials"] if row["rank"]]
    shown, cost, metric = ranked[:MAX_ROWS], result["cost"], result["objective"]["metric"]
    others = [o["metric"] for o in (result["objective"], *result["further_objectives"])]
    others = [name for name in others if name != "val/dice"]
    dice = any(row["dice"] is not None for row in shown)
    rows = [
        [
            row["rank"],
            row["trial"],
            row["status"],
            epochs_text(row),
            *([_score(row, "val/dice", {}), _difference(row)] if dice else []),
            *(_score(row, name, {}) for name in others),
            _plain(row[cost]),
            " ".join(settings_words(result["searched"], row["params"]).values()),
        ]
        for row in shown
    ]
    scores = [Tex(r"Dice [95\,\%]"), Tex(r"minus the best [95\,\%]")] if dice else []
    head = ["rank", "trial", "ended", "epochs", *scores, *others, HEADS[cost], "settings"]
    best = f"The best {len(shown)} of {len(ranked)}" if ranked[MAX_ROWS:] else f"All {len(ranked)}"
    mean = f", the mean of the last {result['smoothing']} validations; scores are the last epoch's"
    mean *= result["smoothing"] > 1
    caption = [
        escape(f"{best} searched configurations with a rank, by {name_of(metric)}{mean}."),
        _validated(result, shown),
        escape(f"How selected: {_selected(result)}."),
        escape("Differences to the best are of Dice, paired by case at the last epoch that both "
               "reported, of one seed on one fold each: exploratory."),
    ]  # fmt: skip
    if not dice:
        del caption[-1]
    widths = f"rrll{'ll' * dice}{'r' * len(others)}r{FOLDS % 0.27}"
    return table(_joined(caption), "tab:ranking", widths, head, rows)


def references(result: Result) -> Tex:
    """Return the best trial, the control, the references, masks and the threshold."""
    kept = {(row["trial"], row["name"]): row["intervals"] for row in result["subgroups"]}
    best = [row for row in result["trials"] if row["rank"]][:1]
    beside = [("best", row) for row in best] + _beside(result)
    own = result["objective"]["metric"]
    metrics = [name for name in dict.fromkeys([own, *USUAL]) if any(
        row["metrics"].get(name) is not None for _, row in beside
    )]  # fmt: skip
    rows = []
    for role, row in beside:
        found = kept.get((row["trial"], role), {})
        rows.append(
            [
                role,
                "" if row["trial"] is None else row["trial"],
                *(_score(row, name, found) for name in metrics),
                _difference(row),
                how_selected(result, row),
            ]
        )
    last = []
    if threshold := result["threshold"]:
        rule = f"threshold {threshold_rule(threshold)}"
        fitted = "fitted on the training cases"
        dice = [f"{threshold['dice']:.3f}" if name == "val/dice" else "" for name in metrics]
        last = [[rule, "", *dice, "", fitted]]
    heads = [Tex(rf"{escape(USUAL.get(name, name))} [95\,\%]") for name in metrics]
    head = ["", "trial", *heads, Tex(r"minus the best [95\,\%]"), "how selected"]
    caption = [
        escape("The best searched configuration and what it is compared with, at the last epoch."),
        _validated(result, [*best, *result["references"]]),
    ]
    if "val/avd_ml" in metrics:
        caption.append(escape("AVD is the absolute difference of volumes."))
    if any(row["difference_to_best"] for _, row in beside):
        caption.append(escape("Differences are of Dice, paired by case, of one training each: "
                              "exploratory."))  # fmt: skip
    widths = f"{FOLDS % 0.1}r{'l' * len(metrics)}l{FOLDS % 0.14}"
    return table(_joined(caption), "tab:references", widths, head, rows, last)


def by_volume(result: Result) -> Tex:
    """Return the Dice by lesion volume of the best, the control and the references."""
    groups = volume_names(result)
    counts = {g["name"]: g["num_cases"] for g in result["subgroups"][0]["groups"]}
    rows = []
    for row in result["subgroups"]:
        found = {group["name"]: group for group in row["groups"]}
        scores = [_of_group(found[name], counts[name]) for name in groups]
        rows.append([row["name"], "" if row["trial"] is None else row["trial"], *scores])
    head = ["", "trial", *(f"{name} ({counts[name]} cases)" for name in groups)]
    caption = [
        escape("Dice by lesion volume at the last epoch, with 95 % intervals over the cases of "
               f"validation fold {result['fold']}."),
        escape(f"How the best was selected: {_selected(result)}; the others were not selected by "
               "the search."),
        _few(),
    ]  # fmt: skip
    return table(_joined(caption), "tab:volume", "lr" + "l" * len(groups), head, rows)


def _of_group(group: Mapping[str, Any], num_cases: int) -> Tex:
    """Return the Dice of a group, and of how many of its cases where masks lack some."""
    of = "" if group["num_cases"] == num_cases else f" ({group['num_cases']} of {num_cases} cases)"
    return Tex(f"{score(group['dice'], group['dice_interval'])}{of}")


def volume_names(result: Result) -> list[str]:
    """Return the groups of lesion volumes that have cases."""
    groups = result["subgroups"][0]["groups"]
    return [g["name"] for g in groups if g["num_cases"] and g["name"] != "empty"]


def verdict(event: Mapping[str, Any], result: Result) -> Tex:
    """Return what `confirm` found: the means of all trainings, and the comparisons."""
    name, on = metric_name(event), event["on"]
    beside = name != "Dice"
    how = f"Confirmed {event['where']}"
    if on == "test":
        how += f"; {readings_text(result['test_readings'])}"
    how = escape(f"{how}. Trained again to epoch {event['epochs']}.")
    rows = [
        [
            masks_text(row) if row["role"] == "masks" else f"trial {row['trial']}",
            row["role"],
            score(row["mean"], row["interval"]),
            *([_dice(row)] if beside else []),
            len(row["by_seed"]),
        ]
        for row in event["scores"]
    ]
    head = ["", "role", Tex(rf"{escape(name)} [95\,\%]"), *[Tex(r"Dice [95\,\%]")] * beside,
            "trainings"]  # fmt: skip
    used = event.get("as_used")
    sentence = [escape(f"{capital(as_used_text(used))}.")] if used else []
    scores = table(
        _joined([how, _few(), *sentence]), f"tab:confirmed-{on}", "lll" + "l" * beside + "r", head,
        rows,
    )  # fmt: skip
    if not event["comparisons"]:
        return scores
    remarks = any(row["reason"] for row in event["comparisons"])
    rows = [
        [
            f"trial {row['trial']}",
            opponent(row),
            row["verdict"] if row["verdict"] != "none" else "no verdict",
            _compared(row),
            Tex("" if row.get("p_holm") is None else f"{row['p_holm']:.2g}"),
            len(row.get("seeds", ())),
            num_cases(row) if row.get("num_cases") else "",
            *([row["reason"]] if remarks else []),
        ]
        for row in event["comparisons"]
    ]
    head = ["", "against", "verdict", f"{name}, difference", "p (Holm)", "seeds", "cases"]
    caption = _joined(
        [escape(f"Verdicts on {name}, by differences that are paired by case."), how, _few()]
    )
    widths = "llllrrr" + (FOLDS % 0.13) * remarks
    head += ["remark"] * remarks
    return Tex(scores + table(caption, f"tab:verdicts-{on}", widths, head, rows))


def space(study: StudyConfig, result: Result) -> Tex:
    """Return what was searched, and what the best trial has."""
    best: dict[str, Any] = next((row["params"] for row in result["trials"] if row["rank"]), {})
    rows = [
        [code(name), _range(dimension), _when(dimension), code(param(best.get(name, "")))]
        for name, dimension in study.space.items()
    ]
    caption = escape(
        f"Searched settings, and those of the best trial by {name_of(study.objective.metric)}: "
        f"{_selected(result)}."
    )
    widths = f"l{FOLDS % 0.25}{FOLDS % 0.25}l"
    return table(caption, "tab:space", widths, ["setting", "range", "only while", "best"], rows)


def how_selected(result: Result, row: Mapping[str, Any]) -> str:
    """Return in words how what a row shows was chosen."""
    if row["kind"] == "masks" or any(row is each for each in result["references"]):
        chosen = "not selected by the search"
    else:
        return _selected(result)
    return "; ".join(filter(None, [chosen, row.get("unseen") or row["first_weights"]]))


def _selected(result: Result) -> str:
    ranked = sum(row["rank"] is not None for row in result["trials"])
    where = "" if result["fold"] is None else f" on validation fold {result['fold']}"
    return f"the best of {ranked}{where} ({result['label']})"


def _beside(result: Result) -> list[tuple[str, Mapping[str, Any]]]:
    return [(str(row["name"]), row) for row in (*result["references"], *result["masks"])]


def _validated(result: Result, rows: Iterable[Mapping[str, Any]]) -> Tex:
    """Return over which cases the intervals of rows are."""
    counts = sorted({row["num_cases"] for row in rows if row["num_cases"]})
    if not counts:
        return _few()
    with_lesion = " with a lesion" * (result["trainer"] is None)
    where = "" if result["fold"] is None else f" of validation fold {result['fold']}"
    numbers = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    return Tex(rf"Intervals are of 95\,\%, over {numbers} cases{with_lesion}{where}. {_few()}")


def _few() -> Tex:
    return Tex(f"{NO_INTERVAL}: too few cases to tell; without brackets: cases are not kept.")


def _difference(row: Mapping[str, Any]) -> Tex:
    found = row["difference_to_best"]
    return score(found["mean"], found["interval"], "+.3f") if found else Tex()


def _compared(row: Mapping[str, Any]) -> Tex:
    if row.get("mean") is None:
        return Tex()
    found = score(row["mean"], row.get("interval"), "+.3f")
    level = row.get("level")
    return Tex(rf"{found} ({100 * level:.4g}\,\%)") if row.get("interval") and level else found


def _dice(row: Mapping[str, Any]) -> Tex:
    return score(row["dice"]["mean"], row["dice"]["interval"]) if row.get("dice") else Tex()


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _range(dimension: Dimension) -> Tex:
    prior = f"; prior {param(dimension.prior)}" if dimension.has_prior else ""
    if dimension.choices is not None:
        return escape(", ".join(param(choice) for choice in dimension.choices) + prior)
    assert dimension.low is not None and dimension.high is not None
    step = f", step {dimension.step:g}" if dimension.step else ""
    whole, log = ", whole" * (dimension.type == "int"), ", logarithmic" * dimension.log
    return escape(f"{dimension.low:g} to {dimension.high:g}{whole}{step}{log}{prior}")


def _when(dimension: Dimension) -> Tex:
    return escape(
        "; ".join(
            f"{name} is {' or '.join(param(value) for value in values)}"
            for name, values in dimension.when.items()
        )
    )


def _joined(sentences: Iterable[Tex]) -> Tex:
    return Tex(" ".join(filter(None, sentences)))
