"""What goes wrong with attempts and nodes, and when and where a trial starts again."""
