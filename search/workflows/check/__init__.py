"""What `segtune check` tries, whether this machine trains as it should, one kind of thing a file."""
