"""`segtune sync`: what MLflow does not have of a study yet, sent now and without Ray."""

from pathlib import Path

from search.ledger.journal import Event
from search.ledger.session import StudySession
from search.storage.archives.opened import check_not_archived
from search.storage.studies import display_path, open_as_driver, read_study, writer_of
from search.tracking.tracker import Tracker, why
from trainer.configfile import ConfigError


def sync(folder: Path) -> str:
    """Send what MLflow does not have, and return in a line what that was.

    The ledger is held as by a driver, which it takes to write down the links to MLflow's runs.

    Args:
        folder: The study's.

    Raises:
        ConfigError: MLflow does not answer or refuses; what it took is not sent again.
        ValueError: The study is being run, or its ledger is damaged.
        OSError: The ledger cannot be read or written.
    """
    check_not_archived(folder)
    path = folder / "ledger.jsonl"
    if who := writer_of(path):
        raise ConfigError(
            [f"{display_path(folder)}: is being run by {who}, which sends everything itself"]
        )
    study, _ = read_study(folder)
    said: list[str] = []
    with open_as_driver(folder) as ledger:
        session = StudySession(study, folder.resolve(), ledger)
        links: list[Event] = []
        tracker = Tracker(session, links.append, said.append)
        try:
            sent = tracker.deliver(last=True)
        except Exception as error:  # whatever MLflow raises
            said_why = why(error, tracker.uri)
            raise ConfigError([f"MLflow at {tracker.uri} does not answer: {said_why}"]) from error
        finally:
            session.record(*links)
    if not sent:
        return "\n".join([*said, f"{study.study}: MLflow at {tracker.uri} has everything"])
    num_trials = len(session.state.trials)
    line = f"{study.study}: sent {sent} events of {num_trials} trials"
    return "\n".join([*said, f"{line} to MLflow at {tracker.uri}"])
