"""What a person may have meant, and how names are shown, in the lines about errors."""
