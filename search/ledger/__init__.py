"""The record of a study: journal, lease, state, budget and decisions, all from its events."""
