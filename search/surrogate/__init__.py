"""A model of learning curves: what a configuration is worth, and what a trial will end with."""
