"""Why a Dice stalls: findings from a trial's history, inputs, weights and neighbors."""
