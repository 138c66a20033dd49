"""Archives: a study as one file to hand on, read-only wherever it is opened."""
