"""What a model's probabilities are worth: calibration, ranking of cases, ensembles by size."""
