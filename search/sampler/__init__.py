"""What to try next: Optuna, drawing from the seed and the ledger alone."""
