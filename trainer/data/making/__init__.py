"""How a data set's folder is made: by one process at a time, and by workers that end with it."""
