"""The best trials of a search judged: trained again by `confirm`, or at a launch's end."""
