"""What a person and a study have of a single trial: its name, its pictures and its noise."""
