"""Masks: which of their values are lesion, decided once for a whole data set."""
