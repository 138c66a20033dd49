"""A study as one run of Ray Tune."""
