"""Does what a study says of its settings hold? Power and false alarms on planted functions."""
