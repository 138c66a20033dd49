"""Why a run's Dice is what it is: measurements of its validations, its weights and its data."""
