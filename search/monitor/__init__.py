"""What people see while a study runs: status, the live screen, the time to the end."""
