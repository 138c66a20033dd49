"""Trains, validates and applies one configuration. Knows nothing of searches."""
