"""The section `notify`: whom it names, and that its secrets are shown nowhere."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from search.study.changes import changes, changes_while_running
from search.study.config import StudyConfig
from search.study.load import load_study
from search.study.notify.masks import masked_address, masked_command, without_words_of
from search.study.notify.section import KINDS
from search.study.notify.targets import targets
from search.workflows.jobs import _working_directory
from search.workflows.preview.dry_run import preview
from trainer.configfile import ConfigError

SECRET = "T0S3CR3T"
SLACK = f"https://hooks.slack.com/services/{SECRET}"


def study(**notify: Any) -> StudyConfig:
    return StudyConfig.model_validate(
        {
            "study": "toy",
            "data": {"store": "."},
            "space": {"optimizer.lr": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True}},
            "trials": {"num_trials": 4},
            **({"notify": notify} if notify else {}),
        }
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (SLACK, "https://hooks.slack.com/***"),
        (f"https://me:{SECRET}@ntfy.example.org:8080/", "https://***@ntfy.example.org:8080/"),
        (f"https://ntfy.sh/{SECRET}?auth={SECRET}", "https://ntfy.sh/***"),
        (f"https://ntfy.sh?auth={SECRET}", "https://ntfy.sh/***"),
        ("https://${USER}:${PASSWORD}@h/${TOPIC}", "https://${USER}:${PASSWORD}@h/${TOPIC}"),
        ("${HOOK}", "${HOOK}"),
        ("https://example.org", "https://example.org"),
    ],
)
def test_what_follows_a_host_and_names_a_user_is_masked(text: str, shown: str) -> None:
    assert masked_address(text) == shown


@pytest.mark.parametrize(
    "words",
    [
        f"-H 'Authorization: Bearer {SECRET}'",
        f"-H 'Authorization: ApiKey {SECRET}'",
        f'-u "me:{SECRET}"',
        f"-u me:{SECRET}",
        f"-ume:{SECRET}",
        f"--user=me:{SECRET}",
        f'--password "{SECRET}"',
        f"--token '{SECRET}'",
        f'token="{SECRET}"',
        f"SLACK_PASS={SECRET}",
        SECRET,
        SLACK,
        f'-d \'{{"channel": "${{CHANNEL}}"}}\' {SLACK}',
    ],
)
@pytest.mark.parametrize("end", ["", " x", ' "'])
def test_no_word_of_a_command_is_shown_that_may_be_a_secret(words: str, end: str) -> None:
    shown = masked_command(f"env {words}{end}")
    assert SECRET not in shown and "***" in shown and shown.startswith("env ")


def test_a_command_is_shown_as_far_as_it_has_no_secrets() -> None:
    kept = "./tell.sh --quiet -u me:${PASSWORD} -H 'Authorization: Bearer ${TOKEN}' ${HOOK}"
    assert masked_command(kept) == kept
    assert masked_command(f"curl -s --retry 3 {SLACK}") == (
        "curl -s --retry *** https://hooks.slack.com/***"
    )
    said = f"401: {SECRET} is not allowed at {SLACK}"
    assert without_words_of(f"curl -u {SECRET} {SLACK}", said) == ("401: *** is not allowed at ***")


def test_the_secrets_of_a_study_are_in_nothing_that_is_written_or_shown_of_it() -> None:
    config = study(
        webhook=SLACK, heartbeat=f"https://hc-ping.com/{SECRET}", command=f"tell --token {SECRET}"
    )
    recorded = config.model_dump(mode="json")
    shown = [repr(config), str(config), json.dumps(recorded), config.model_dump_json()]
    shown += [preview(config.model_copy(update={"notify": study(webhook=SLACK).notify}))]
    assert not [text for text in shown if SECRET in text]
    assert "https://hooks.slack.com/*** (slack)" in shown[-1]
    assert targets(study(webhook=SLACK).notify, {}).webhook == SLACK  # and yet it is known
    with _working_directory(config) as folder:  # it travels to a cluster
        sent = yaml.safe_load((Path(folder) / "study.yaml").read_text())
    assert StudyConfig.model_validate(sent).notify == config.notify


def test_what_was_masked_is_not_used_and_said_and_the_environment_names_another() -> None:
    kept = StudyConfig.model_validate(study(webhook=SLACK, on=["end"]).model_dump(mode="json"))
    found = targets(kept.notify, {})
    assert not found and found.notes == (
        "notify.webhook: https://hooks.slack.com/***: the secret that was here is in no file of "
        "the study: not used; SEGTUNE_NOTIFY_WEBHOOK names another",
    )
    found = targets(kept.notify, {"SEGTUNE_NOTIFY_WEBHOOK": SLACK})
    assert (found.webhook, found.format, found.on, found.notes) == (SLACK, "slack", ("end",), ())
    assert SECRET not in repr(found) + found.in_words()


def test_names_of_variables_are_kept_and_read_where_the_study_runs() -> None:
    kept = StudyConfig.model_validate(study(webhook="${HOOK}").model_dump(mode="json"))
    assert targets(kept.notify, {"HOOK": SLACK}).webhook == SLACK
    [note] = targets(kept.notify, {}).notes
    assert note.startswith("notify.webhook: ${HOOK}: the environment has no HOOK: not used")
    with pytest.raises(ConfigError, match=r"^notify.webhook: \*\*\*: must be an address"):
        targets(kept.notify, {"HOOK": f"{SECRET} is none"})


@pytest.mark.parametrize(
    ("host", "form"),
    [
        ("hooks.slack.com", "slack"),
        ("prod-1.westeurope.logic.azure.com:443", "teams"),
        ("x.environment.api.powerplatform.com", "teams"),
        ("firm.webhook.office.com", "teams"),
        ("ntfy.sh", "ntfy"),
        ("ntfy.example.org", "ntfy"),
        ("discord.com", "discord"),
        ("hooks.slack.com.example.org", "json"),
    ],
)
def test_what_a_webhook_takes_goes_by_its_host_unless_it_is_said(host: str, form: str) -> None:
    assert targets(study(webhook=f"https://{host}/x").notify, {}).format == form
    assert targets(study(webhook=f"https://{host}/x", format="slack").notify, {}).format == "slack"


@pytest.mark.parametrize(
    ("notify", "line"),
    [
        ({"webhook": f"hooks.slack.com/{SECRET}"}, "notify.webhook: ***: must be an address, as"),
        ({"webhook": f"ftp://h/{SECRET}"}, "notify.webhook: ftp://h/***: must be an address, as"),
        ({"heartbeat": f"https:///{SECRET}"}, "notify.heartbeat: https:///***: must be an address"),
        ({"webhook": f"https://h:99999/{SECRET}"}, "notify.webhook: https://h:99999/***: must be"),
        ({"webhook": f"https://h/{SECRET} x"}, "notify.webhook: https://h/*** x: must be an addr"),
        ({"webhook": [SLACK]}, "notify.webhook: must be text"),
        ({"webhook": ""}, "notify.webhook: must be text"),
        ({"command": f"tell --token {SECRET} 'x"}, "notify.command: tell --token *** ***: no clos"),
        ({"webhok": SLACK}, "notify.webhok: no such key; did you mean notify.webhook?"),
        ({"on": ["ends"]}, "notify.on.0: 'ends': must be 'end', 'broken', 'best' or 'budget'"),
        (SLACK, "notify: must be a section with webhook, format, command, heartbeat, on"),
    ],
)
def test_bad_targets_get_a_line_without_their_secret(
    tmp_path: Path, notify: Any, line: str
) -> None:
    values = study().model_dump(mode="json") | {"notify": notify}
    (path := tmp_path / "study.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError) as caught:
        load_study(path)
    [said] = caught.value.lines
    assert said.startswith(f"{path}: {line}") and SECRET not in said


def test_it_may_change_between_launches_and_not_under_a_driver() -> None:
    refused, notes = changes(study(), study(webhook=SLACK))
    line = "notify.webhook: https://hooks.slack.com/***, was not given"
    assert not refused and notes == [line]
    later, changed = changes_while_running(study(), study(webhook=SLACK))
    assert not changed and later[0].startswith(f"{line}: needs another launch")


def test_on_needs_no_quotes(tmp_path: Path) -> None:
    text = yaml.safe_dump(study().model_dump(mode="json", exclude={"notify"}))
    (path := tmp_path / "study.yaml").write_text(
        f"{text}notify:\n  webhook: ${{HOOK}}\n  on: [end, best]\n"
    )
    assert load_study(path).notify.on == ("end", "best")
    assert load_study(path, ["notify.on=[budget]"]).notify.on == ("budget",)


def test_bad_targets_of_the_environment_and_missing_programs_get_a_line() -> None:
    for variables, line in (
        ({"SEGTUNE_NOTIFY_HEARTBEAT": f"htp://h/{SECRET}"}, "SEGTUNE_NOTIFY_HEARTBEAT: htp://h/"),
        ({"SEGTUNE_NOTIFY_COMMAND": f"no-such-{SECRET}"}, "SEGTUNE_NOTIFY_COMMAND: no-such-"),
    ):
        with pytest.raises(ConfigError) as caught:
            targets(study().notify, variables)
        assert caught.value.lines[0].startswith(line)


def test_a_study_without_it_has_the_hash_that_it_had_and_it_changes_none() -> None:
    plain = study()
    assert plain.config_hash() == study(webhook=SLACK).config_hash()
    assert plain.notify.on == KINDS and not targets(plain.notify, {})
    assert "notify" not in preview(plain)
