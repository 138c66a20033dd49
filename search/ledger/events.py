"""The kinds of events in a ledger, and how trials end and attempts die.

Each event has `event`, its kind, `time`, `after_s` (seconds since its driver's event before, which
are charged) and where it applies `trial`. The kinds and what else they have:

    driver       host, pid, by (whose hand it was, as in others below); a launch begins, and
                 whatever ran before is interrupted
    study        config, config_hash, settings (every trainer setting as resolved at its birth, by
                 dotted path), semantics, store_hash, commit, versions; written again where what
                 may change does, with the settings and semantics of the first; request and by,
                 where a person asked the driver for it; lets_go in the first, where checkpoints
                 that `checkpoints.keep` does not name may go, as those of earlier versions may not
    threshold    what the best single-modality threshold scores
    data         what the store says of itself (search/storage/data_facts.py), and what a perfect
                 model could score on the validation cases at its image size
    masks        name, folder, splits, content_hash, fold, covered ([scored, of] by fold), metrics
                 on the study's fold, cases (a score each of all folds, with its fold), missing (of
                 the fold), unseen, unseen_anywhere (in words whether the patients of the fold, of
                 all folds, may not be new to their model), said: what masks that are a reference
                 score; again where their content changes
    imported     source, source_trial, params, values, ending: of an earlier study, for the sampler
    enqueued     params, request, by, like (the trial that they are of), reference (its name, if it
                 is to be one): a trial by hand, which is proposed before all that is sampled
    proposed     params, kind (control, enqueued, sampled, confirm), protected, optuna (what the
                 sampler must remember), drawn_before (draws that had been tried), same_as (an
                 earlier trial whose params it was given again), from_prior (true for a draw of the
                 prior's), request and reference (of the `enqueued` that it carries out); with kind
                 confirm: of, seed, fold, epochs
    refused      params, optuna, drawn_before, from_prior, reason: a proposal that the trainer does
                 not take, which is no trial
    exhausted    reason: why no further trial is sampled; drawn_before
    stop_asked   request, by: a person wants the trial to end at its checkpoint, as stopped
    note         request, by, text: what a person says of the trial
    declined     request, by, what, reason: what a person asked for, and does not get
    started      attempt, host, pid, cpu, threads; commit and versions of the process that
                 trains, which version 0.1 recorded in `study` alone
    cases        case_list (its number, from 0), names, of (how many cases there were): the order
                 in which reports have their cases' scores (search/ledger/case_lists.py)
    reported     epoch, value (of the objective), metrics; case_list and case_scores (of the
                 objective), absent where there are none, as in older ledgers; gpu, the model on
                 which torch computes, absent for the CPU (version 0.1 has nvidia-smi's
                 answer in `started`)
    decided      epoch, action (continue, stop, stall, complete), reason, rung (None if at
                 none)
    ended        ending, epoch, reason
    interrupted  epoch, cause (stop, node, process, hung, error, storage, data, memory, machine),
                 reason, again_s (seconds before its next attempt, absent for none), by
                 (whose stop file it was); the attempt is
                 gone, the trial goes on later
    retried      epoch; a trial that failed goes on, as if it had not
    resume       top, epochs, trials: what a `segtune resume` chose
    resumed      epoch, epochs; a trial that ended goes on to a larger number of epochs
    waits        reason: for what the study has fewer trials than it wants; empty when it has them
    budget       what, spent, limit: why the launch ended
    verdict      what `segtune confirm` found
    test_read    metrics on the sealed test set, store_reading (the how-many-eth of the store,
                 counted beside it)
    used         epoch, sampling, metrics, cases: a confirming trial's validation cases, predicted
                 as a finished model is used
    redrawn      epoch, case_list, draws (for each, the objective of those cases), seconds: trained
                 weights validated again with other noise, for the section `confirm`
    confirmed    settings (of the section), best, other, by (noise, seeds, None), told, why, spent
                 and limit (hours of `unit`), candidates, draws, seeds, and of best minus other
                 mean, interval, level: what that section came to
    painted      epoch, files (below the trial's folder), seconds: pictures of its weights
    deleted      parts (weights, checkpoints), by: what of its folder a person wanted to go, and
                 which is gone, or goes at the next launch or `segtune delete`; its next report
                 brings new ones
    noise        epoch, metric, draws, mean, std, seconds: of its weights' validation, the noise
                 redrawn; once a study
    mlflow       run_id with a trial, experiment_id without
"""

from collections.abc import Iterable, Iterator
from typing import Literal

from search.ledger.journal import Event

Ending = Literal["completed", "stopped", "stalled", "diverged", "infeasible", "failed"]
MENDABLE = ("failed", "infeasible")
"""Endings after which another try makes sense: nothing was measured."""
COUNTED = {"process", "hung", "error"}
"""Causes of an interruption that use up a trial's retries: those that may be its own fault."""
OF_THE_MACHINE = {"memory", "machine"}
"""Causes that are hardly a trial's fault, but for ever only where it is one."""

KINDS = frozenset({
    "driver", "study", "threshold", "data", "masks", "imported", "enqueued", "proposed", "refused",
    "exhausted", "stop_asked", "note", "declined", "started", "cases", "reported", "decided",
    "ended", "interrupted", "retried", "resume", "resumed", "budget",
    "verdict", "test_read", "used", "redrawn", "confirmed", "painted", "deleted", "noise", "waits",
    "mlflow",
})  # fmt: skip
OWN = {"mlflow", "driver", "waits", "cases"}
"""Events that say nothing about the study, so that MLflow need not have them."""


def lasting(events: Iterable[Event]) -> Iterator[Event]:
    """Yield the events but those ends that a later `retried` took back."""
    events = list(events)
    ends: dict[int, int] = {}
    taken_back: set[int] = set()
    for place, event in enumerate(events):
        if event["event"] == "ended":
            ends[event["trial"]] = place
        elif event["event"] == "retried":
            taken_back.add(ends[event["trial"]])
    yield from (event for place, event in enumerate(events) if place not in taken_back)
