"""What trainings with other seeds on other folds say: who is better than whom, and how surely."""
