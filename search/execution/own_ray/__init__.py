"""A Ray that segtune starts on this machine: where its files are, and what it needs to start."""
