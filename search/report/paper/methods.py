"""How a study was done, in sentences that can stand in a paper.

Its words are in methods.tex.jinja beside this file.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from search.analysis.provenance import provenance
from search.ledger.budget import UNITS
from search.ledger.journal import Event
from search.ledger.state import StudyState, threshold_rule
from search.report.leaderboard import noise_text
from search.report.paper.bibliography import families
from search.report.paper.latex import Tex, capital, code, filled_in, listed
from search.report.paper.tables import name_of
from search.report.verdicts import confirmation_text
from search.storage.data_facts import data_in_words
from search.study.config import StudyConfig


def methods(
    study: StudyConfig,
    state: StudyState,
    events: list[Event],
    result: Mapping[str, Any],
    cited: list[str],
) -> str:
    """Return the paragraphs as LaTeX.

    Args:
        study: The study's settings.
        state: Its ledger.
        events: The ledger's lines.
        result: As `search.analysis.results.compare` returns it.
        cited: Keys of the bibliography.
    """
    assert state.study is not None
    made = provenance(state, events)
    facts = data_in_words(state.data) if state.data else []
    return filled_in(
        "methods.tex.jinja",
        code=code,
        listed=listed,
        cite=lambda *keys: _cite([key for key in keys if key in cited]),
        result=result,
        study=study,
        trainer=result["trainer"],
        families=[] if study.trainer else families(study, result),
        epoch_images=study.epoch_images if study.trains else None,
        endings=_endings(result),
        beside=_beside(result),
        metric=name_of(study.objective.metric),
        from_prior=sum(
            event["event"] == "proposed" and bool(event.get("from_prior")) for event in events
        ),
        num_ranked=sum(row["rank"] is not None for row in result["trials"]),
        confirmed=confirmation_text(event) if (event := result["confirmation"]) else "",
        compared=any(event["comparisons"] for event in result["verdicts"]),
        noise="" if "missing" in result["noise"] else capital(noise_text(result)),
        facts=[(capital(name), text) for name, text in facts],
        uid=state.study.get("uid", "unknown"),
        semantics=state.study.get("semantics"),
        commits=_commits(made["commits"]),
        versions=[f"{name} {' and '.join(found)}" for name, found in made["versions"].items()],
        hardware=_hardware(study, made),
        spent=f"{result['spent'][result['cost']]:.3g} {UNITS[result['cost']]}",
        made=made,
    )


def _cite(keys: list[str]) -> Tex:
    return Tex(rf"~\cite{{{','.join(keys)}}}" if keys else "")


def _endings(result: Mapping[str, Any]) -> Tex:
    counts = Counter(row["status"] for row in result["trials"])
    verb = {name: "are" for name in ("running", "waiting")}
    words = [
        f"{number} {verb[status] + ' ' if status in verb else ''}{status}"
        for status, number in counts.most_common()
    ]
    return listed(words)


def _beside(result: Mapping[str, Any]) -> list[str]:
    rows = [f"{row['name']} (trial {row['trial']})" for row in result["references"]]
    rows += [f"masks {row['name']}" for row in result["masks"]]
    if threshold := result["threshold"]:
        rows.append(f"the best threshold of a single modality ({threshold_rule(threshold)})")
    return rows


def _commits(counts: Mapping[str, int]) -> list[Tex]:
    return [
        Tex(f"commit {code(commit or 'unknown')} ({number} start{'s' * (number != 1)})")
        for commit, number in counts.items()
    ]


def _hardware(study: StudyConfig, made: Mapping[str, Any]) -> str:
    """Return GPUs, CPUs and machines in words; trials without a GPU say so."""
    gpus = " and ".join(made["gpus"]) or (
        "GPUs of unknown model" if study.trials.gpus else "no GPU"
    )
    cpus = " and ".join(made["cpus"]) or "CPUs of unknown model"
    each = f"{study.trials.gpus:g} GPUs and {study.trials.cpus_per_trial} CPUs a trial"
    machines = (
        f"{made['num_hosts'] or 'an unknown number of'} machine{'s' * (made['num_hosts'] != 1)}"
    )
    return f"{gpus}; {cpus}; {machines}; {each}"
