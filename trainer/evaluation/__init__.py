"""From images to figures: ensembles, whole cases, metrics, thresholds."""
