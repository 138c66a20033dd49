"""Gaussian diffusion: noise schedules, the process and its inversions, and sampling."""
