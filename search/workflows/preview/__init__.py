"""What is looked at, and said, before a study is launched."""
