"""Who is told when it matters."""
