"""Benchmarks: one module a figure, run as `python -m benchmarks.<name>`."""
