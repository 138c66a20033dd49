"""The study that wrong ones begin with, and ways to make it wrong."""

BASE = """\
study: demo
data: {store: STORE, fold: 0}
train:
  model.family: medsegdiff_v1
  model.width: 8
  model.depth: 2
  model.attention_levels: 0
  optimizer.warmup_images: 8
  epoch_images: 8
space:
  optimizer.lr: {type: float, low: 1e-4, high: 1e-2, log: true}
  batch.effective: {type: categorical, choices: [2, 4]}
  loss.weighting: {type: categorical, choices: [fixed, warm_in]}
  loss.warm_in_fraction: {type: float, low: 0.1, high: 0.3, when: {loss.weighting: [warm_in]}}
scheduler: {type: asha, grace_period: 1, max_t: 3, reduction_factor: 2}
sampler: {type: tpe, num_startup_trials: 2}
trials: {num_trials: 4, cpus_per_trial: 1}
enqueue:
  - {optimizer.lr: 1e-3, batch.effective: 2}
seed: 0
"""
"""A sound study; STORE stands for a store's path."""


def put(old: str, new: str) -> str:
    assert BASE.count(old) == 1, old
    return BASE.replace(old, new)


def lr(dimension: str) -> str:
    return put("{type: float, low: 1e-4, high: 1e-2, log: true}", dimension)


def batch(dimension: str) -> str:
    return put("{type: categorical, choices: [2, 4]}", dimension)


def fraction(when: str) -> str:
    return put("when: {loss.weighting: [warm_in]}", f"when: {when}")


def grid(dimension: str) -> str:
    """A grid of one dimension, for four trials."""
    head, _, rest = BASE.partition("space:\n")
    rest = rest[rest.index("scheduler:") : rest.index("enqueue:")]
    rest = rest.replace("type: tpe, num_startup_trials: 2", "type: grid")
    return f"{head}space:\n  optimizer.lr: {{{dimension}}}\n{rest}"
