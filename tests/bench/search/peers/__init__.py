"""Other searches, in an environment of their own, asked and told through lines of JSON."""
