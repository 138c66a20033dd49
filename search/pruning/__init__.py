"""Who goes on: ASHA and the stall rule as pure state machines."""
