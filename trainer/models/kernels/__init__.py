"""Triton kernels over channels-last feature maps, for GPUs."""
