"""Tests of segtune/."""
