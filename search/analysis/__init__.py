"""Numbers from a ledger: ranking, cases, importance, significance."""
