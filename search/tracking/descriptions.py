"""How MLflow's pages show a study: its description, the names of runs, and a view with charts.

The view is one of MLflow's own saved views, a tag of the experiment: the table has the best trial
on top and the searched parameters beside its result, the charts begin with parallel coordinates.
"""

import json
import re
import uuid
from typing import Any
from urllib.parse import quote, urlencode

from search.ledger.trial_state import TrialState
from search.study.config import StudyConfig

VIEW = "segtune"
"""The saved view, as addresses name it."""

LEGEND = """
Look first at

1. the run `{study}`: its description begins with the answer in a sentence (what is best, by how much, what mattered, what to do next); `report.html` among its artifacts is the page with everything;
2. the view *{name}*, in the menu Views (or at the address that `segtune ui {study}` prints): the searched settings beside `final/{metric}`, and the charts;
3. without it, the table sorted by the column `final/{metric}`, {order} first. The trials are nested below the run `{study}`.

| | |
|---|---|
| run `{study}` | the study: leaderboard, verdicts, learning curves, `report.html`; `best/…` by the number of validations |
| runs `0002`, `0003`, … | the searched trials; tag `searched` names what was searched |
| runs `0000 control`, … | the control and the references by their names, protected: outside of pruning and search |
| `confirms 5` | trial 5 trained again with another seed on another fold |
| `final/…` | what a trial is ranked by, {mean}; `final/epochs` says how far it came. The last point of `val/…` is that epoch's own, whose weights are exported |
| `noise/…` | a validation's own noise, in the study's run: mean and standard deviation of one with the noise redrawn |
| `val/…`, `train/…`, `time/…` | by epoch; each loss term as it is and `_weighted`; seconds |
| status | Finished is also what was stopped early, which is no failure: tag `ending` (completed, stopped, stalled, diverged, infeasible, failed) |
| tags | `status` (waiting, running or its ending), `reason`, `rung`, `fold`, `seed`, `hosts`, `resumed_from`, `confirms`, `verdict.…`; notes are the description of a trial's run |

Numbers of a search are selected on, optimistic: only verdicts compare.
"""  # noqa: E501


def experiment_tags(study: StudyConfig, begun_s: float) -> dict[str, str]:
    """Return what MLflow's pages need to know of a study, as tags of its experiment.

    Args:
        study: The study's settings.
        begun_s: When it began, in unix seconds.
    """
    return {
        "mlflow.note.content": _note(study),
        "mlflow.experimentKind": "custom_model_development",
        "mlflow.experiment.primaryMetric.name": study.objective.metric,
        f"mlflow.sharedViewState.{VIEW}": _view(study, begun_s),
    }


def markdown(text: str) -> str:
    """Return what a person wrote so that MLflow shows it as it is: no link, no picture, no HTML."""
    return re.sub(r"([\\`*_\[\]<>!#|~])", r"\\\1", text)


def page_address(server: str, experiment_id: str) -> str:
    """Return the address of a study's experiment, with its view.

    Args:
        server: `http://host:port`, without a password.
        experiment_id: MLflow's.
    """
    query = urlencode({"workflowType": "machine_learning", "viewStateShareKey": VIEW})
    return f"{server.rstrip('/')}/#/experiments/{quote(experiment_id)}/runs?{query}"


def run_name(
    trial: TrialState,
    reference: str | None = None,
    of: TrialState | None = None,
    confirmed: str | None = None,
) -> str:
    """Return a trial's name: its number and what it is, if it is not of the search.

    Args:
        trial: The trial.
        reference: Its name, where it is one.
        of: What it confirms.
        confirmed: The name of that, where it is a reference.
    """
    number = f"{trial.number:04d}"
    if of is not None:
        what = "control" if of.kind == "control" else confirmed or of.number
        return f"{number} confirms {what}: seed {trial.seed}, fold {trial.fold}"
    if trial.kind == "control":
        return f"{number} control"
    return f"{number} {reference}" if reference else number


def _note(study: StudyConfig) -> str:
    searched = ", ".join(f"`{name}`" for name in study.space)
    aim = "highest" if study.objective.mode == "max" else "lowest"
    data = study.data
    where = f" on fold {data.fold} of `{data.store}`" if study.has_data else ""
    who = f"\n\nTrainer: `{study.trainer.name}`" if study.trainer else ""
    question = (
        f"**What gives the {aim} `{study.objective.metric}`**{where}?{who}\n\nSearched: {searched}"
    )
    return f"{question}\n" + LEGEND.format(
        study=study.study,
        name=_name(study),
        mean=_mean(study),
        metric=short(study.objective.metric),
        order=aim,
    )


def _mean(study: StudyConfig) -> str:
    many = study.scheduler.smoothing
    return f"the mean of its last {many} validations" if many > 1 else "its last validation"


def _name(study: StudyConfig) -> str:
    return f"{study.study}: what matters"


def short(metric: str) -> str:
    """Return a metric's name without its group, if it has one: `dice` of `val/dice`."""
    return metric.partition("/")[2] or metric


def _view(study: StudyConfig, begun_s: float) -> str:
    """Return a saved view in the form of MLflow 3.17; others ignore what they do not know."""
    objectives = [study.objective, *study.further_objectives]
    # Without pruning all trials have as many epochs.
    epochs = ["final/epochs"] if study.scheduler.type != "none" or study.stall else []
    final = [f"final/{short(objective.metric)}" for objective in objectives]
    params = list(study.space)
    parallel = {
        "type": "PARALLEL",
        "displayName": "Searched parameters and where they led",
        "selectedParams": params,
        "selectedMetrics": [*epochs, *reversed(final)],  # the last one gives the color
        "showAllRuns": True,
        "runsCountToCompare": 100,
    }
    curves = [
        {
            "type": "LINE",
            "displayName": f"{metric} by epoch",
            "metricKey": metric,
            "selectedMetricKeys": [metric],
            "xAxisKey": "step",
            "scaleType": "linear",
            "xAxisScaleType": "linear",
            "lineSmoothness": 0,
            "range": {},
            "useGlobalXaxisKey": True,
            "useGlobalLineSmoothing": True,
            "runsCountToCompare": 20,
        }
        for metric in (study.objective.metric, "train/loss")
    ]
    slices = [
        {
            "type": "SCATTER",
            "displayName": f"{final[0]} by {name}",
            "xaxis": {"key": name, "type": "PARAM"},
            "yaxis": {"key": final[0], "type": "METRIC"},
            "runsCountToCompare": 100,
        }
        for name in params[:4]
    ]
    sections = {"What led where": (1, [parallel]), "Curves and slices": (2, [*curves, *slices])}
    charts = [
        {"uuid": _id(study, chart["displayName"]), "metricSectionId": _id(study, name),
         "deleted": False, "isGenerated": False, **chart}
        for name, (_, its_charts) in sections.items()
        for chart in its_charts
    ]  # fmt: skip
    columns = [f"metrics.`{name}`" for name in [*final, *epochs]]
    columns += [f"params.`{name}`" for name in params]
    columns += ["tags.`status`", "tags.`kind`", "attributes.`Duration`"]
    state: dict[str, Any] = {
        "searchFilter": "tags.kind != 'study' and tags.kind != 'confirm'",
        "orderByKey": f"metrics.`{final[0]}`",
        "orderByAsc": study.objective.mode == "min",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": columns,
        "runsHiddenMode": "SHOW_ALL" if study.trials.num_trials <= 30 else "FIRST_20_RUNS",
        "compareRunCharts": charts,
        "compareRunSections": [
            {"uuid": _id(study, name), "name": name, "display": True, "isReordered": True,
             "deleted": False, "isGenerated": False, "columns": num, "cardHeight": 400}
            for name, (num, _) in sections.items()
        ],
        "isAccordionReordered": True,
        "hideEmptyCharts": True,
    }  # fmt: skip
    begun_ms = int(begun_s * 1000)
    view = {"name": _name(study), "createdAt": begun_ms, "updatedAt": begun_ms}
    return json.dumps(view | {"state": json.dumps(state)})


def _id(study: StudyConfig, what: Any) -> str:
    return uuid.uuid5(uuid.NAMESPACE_OID, f"{study.study}/{what}").hex
