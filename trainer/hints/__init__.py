"""What a person may have meant, for the lines about errors."""
