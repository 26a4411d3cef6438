"""Measurements that anyone can repeat: `python -m benchmarks.lenet_vs_torch`."""
