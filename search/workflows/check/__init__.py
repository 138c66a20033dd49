"""`segtune check`: does this machine train as it should?"""
