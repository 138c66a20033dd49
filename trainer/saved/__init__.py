"""What a run leaves on disk: checkpoints, trained models, packages to take away, thresholds."""
