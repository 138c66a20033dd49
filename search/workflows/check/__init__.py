"""What `segtune check` tries: whether this machine trains as it should, a kind a file."""
