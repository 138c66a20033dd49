"""Notify: what a study says of who is told, and how its secrets are kept."""
