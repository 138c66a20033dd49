"""Ray: sessions, processes, capacity and failures."""
