"""`segtune launch` with a toy trainer: `python -m tests.search.drive STUDY RUNS ADDRESS FIT`."""

import sys
from pathlib import Path

from search.storage.s3 import Remote, is_remote, mirror_of
from search.study.load import load_study
from search.workflows.launch import launch


def main(path: str, runs: str, address: str = "", fit: str = "tests.search.toy:fit") -> int:
    """Launch, with a user's mistake as lines on stderr and status 2."""
    try:
        folder = mirror_of(Remote.parse(runs)) if is_remote(runs) else Path(runs)
        return launch(load_study(path), folder, address or None, fit=fit)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2


def be_patient() -> None:
    """Wait longer for pictures and noise: their process lets those of all other tests go first."""
    from search.execution.image_worker import ImageWorker

    ImageWorker.FINISH_S = ImageWorker.NOISE_S = 600.0


def plain(*words: str) -> int:
    """`main`, with stand-ins for matplotlib and MLflow's page: tests/search/report has the real.

    And with patience where Ray is there; else it would be imported before its token is found.
    """
    from search.report import learning_curves
    from search.tracking import artifacts

    if "ray" in sys.modules:
        be_patient()
    for name in ("draw_study", "draw_trial"):
        setattr(learning_curves, name, lambda *args: args[-1].write_bytes(b"picture"))
    artifacts.write_study_page = lambda folder, found, out: (out / "r.html").write_bytes(b"picture")
    return main(*words)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
