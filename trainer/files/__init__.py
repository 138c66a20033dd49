"""Files that are written whole or not at all, and read whatever has become of them."""
