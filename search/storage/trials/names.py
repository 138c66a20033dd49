"""How a person names a trial: `STUDY:7`, where STUDY is a study's name, folder or address in S3."""

from pathlib import Path

from search.ledger.state import StudyState
from search.ledger.trial_state import TrialState
from search.storage.archives.opened import archive_file
from trainer.configfile import ConfigError


def split_trial(words: str, trial: int | None = None) -> tuple[str, int | None]:
    """Return the study that words name, and the number of the trial, None for the study itself.

    Args:
        words: `STUDY:7` or `STUDY`; what exists as a path is a path, whatever is in its name.
        trial: The number where it was given apart.

    Raises:
        ConfigError: What follows the colon is no number, or there are two.
    """
    study, colon, number = words.rpartition(":")
    if not colon or "/" in number or _exists(words):
        return words, trial
    if not (study and number.isascii() and number.isdecimal() and len(number) < 20):
        example = f"{study or 'STUDY'}:7"
        raise ConfigError([f"{words}: after the colon comes a trial's number, as in {example}"])
    if trial is not None:
        raise ConfigError([f"{words}: names a trial already: leave {trial} out"])
    return study, int(number)


def _exists(words: str) -> bool:
    try:
        return Path(words).exists()
    except OSError:  # a name that is too long
        return False


def trial_name(folder: Path, number: int) -> str:
    """Return the name of a trial of the study in a folder."""
    return f"{archive_file(folder) or folder.absolute().name}:{number}"


def trial_of(folder: Path, state: StudyState, number: int) -> TrialState:
    """Return a trial of the study in a folder.

    Raises:
        ConfigError: There is no such trial.
    """
    if trial := state.trials.get(number):
        return trial
    numbers = f"there are 0 to {max(state.trials)}" if state.trials else "there is none yet"
    raise ConfigError([f"{trial_name(folder, number)}: no such trial; {numbers}"])
