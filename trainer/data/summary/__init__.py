"""Summary: what is said of a store, in lines: what was read, its parts, and notes."""
