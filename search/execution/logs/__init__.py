"""Logs: what a trial's processes print, in its run folder."""
