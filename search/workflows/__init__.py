"""The work of each command, one a file."""
