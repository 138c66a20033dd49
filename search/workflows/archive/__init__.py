"""A study as one file: what goes into an archive, on request under pseudonyms."""
