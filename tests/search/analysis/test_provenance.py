"""With what a study was computed."""

from search.analysis.provenance import provenance
from search.ledger.state import StudyState


def test_commits_versions_and_machines_each_once() -> None:
    """Two machines and a package that was renewed between two trials."""
    events = []
    for number, torch in enumerate(["2.12", "2.13", "2.13"]):
        about = {"trial": number}
        events += [
            {"event": "proposed", **about, "params": {}, "kind": "sampled", "protected": False},
            {"event": "started", **about, "host": f"node{number % 2}", "cpu": "EPYC",
             "commit": "a" if number else "", "versions": {"torch": torch},
             "time": 86400.0 * number},
            {"event": "reported", **about, "epoch": 1, "value": 0.5, "metrics": {}, "gpu": "H100"},
        ]  # fmt: skip
    found = provenance(StudyState.replay(events), events)
    assert found == {
        "commits": {"a": 2, "": 1},
        "versions": {"torch": ["2.12", "2.13"]},
        "gpus": ["H100"],
        "cpus": ["EPYC"],
        "num_hosts": 2,
        "began": "1970-01-01",
        "ended": "1970-01-03",
    }
    assert provenance(StudyState(), [])["began"] is None
