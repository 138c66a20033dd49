"""Messages about a study, and how the services want them."""

import socket
import time
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from search.analysis.ranking import best_of, standing
from search.ledger.session import StudySession
from search.storage.run_folders import log_of
from search.storage.studies import display_path
from search.study.notify.section import Format, Kind

MARKS = {"end": "white_check_mark", "broken": "rotating_light", "best": "trophy", "budget": "coin"}
"""What ntfy shows beside a message."""


class Message(NamedTuple):
    """What is told."""

    event: Kind
    text: str
    """For people, a line or two."""
    facts: dict[str, Any]
    """For programs."""

    def document(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {"text": self.text, "event": self.event, **self.facts}


def message(session: StudySession, event: Kind, what: str) -> Message:
    """Return a message about a study as it is now.

    Args:
        session: The study.
        event: Why it is told.
        what: In words, without the study's name.
    """
    study, state = session.study, session.state
    facts: dict[str, Any] = {
        "study": study.study,
        "folder": display_path(session.folder),
        "host": socket.gethostname(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "standing": state.standing(study),
        "searched": len(state.searched()),
        "num_trials": study.trials.num_trials,
        "metric": study.objective.metric,
        "best": None,
        "failed": [trial.number for trial in state.failed()],
    }
    lines = [f"{study.study}: {what}"]
    if (best := best_of(study, state)) and (mean := standing(study, best)):
        facts["best"] = {"trial": best.number, "value": mean.value, "epoch": best.epoch}
        if event != "best":
            said = f"{study.objective.metric} {mean.value:.4f} ({mean.where})"
            lines.append(f"best: {study.study}:{best.number}, {said}")
    if failed := state.failed():
        last = failed[-1]
        log = log_of(session.folder, last.number) if last.attempts else ""
        lines.append(
            f"{len(failed)} failed, the last {study.study}:{last.number}: {last.reason}"
            + (f"; log: {log}" if log else "")
        )
    return Message(event, "\n".join(lines), facts)


def request(address: str, form: Format, told: Message) -> tuple[str, dict[str, Any]]:
    """Return the address to post to, and the JSON that a service takes.

    ntfy takes JSON at its root, with the topic in it; Teams takes cards.
    """
    match form:
        case "slack":
            return address, {"text": told.text}
        case "discord":
            return address, {"content": told.text[:2000]}
        case "teams":
            lines = told.text.splitlines()
            body = [{"type": "TextBlock", "text": line, "wrap": True} for line in lines]
            card = {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.2",
                "body": body,
            }
            kind = "application/vnd.microsoft.card.adaptive"
            attachment = {"contentType": kind, "contentUrl": None, "content": card}
            return address, {"type": "message", "attachments": [attachment]}
        case "ntfy":
            parts = urlsplit(address)
            above, _, topic = parts.path.rstrip("/").rpartition("/")
            title, _, rest = told.text.partition("\n")
            content = {"topic": topic, "title": title, "message": rest or title}
            urgent = {"priority": 4} if told.event == "broken" else {}
            root = urlunsplit(parts._replace(path=f"{above}/"))
            return root, {**content, "tags": [MARKS[told.event]], **urgent}
    return address, told.document()
