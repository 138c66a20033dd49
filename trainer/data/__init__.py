"""From files on disk to slices in memory: readers, preparation, the store, and the phantom."""
