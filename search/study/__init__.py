"""What one YAML says: a study, its search space, and the problems of both."""
