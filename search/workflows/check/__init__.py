"""What `segtune check` tries: does this machine train as it should?"""
