"""Speed and memory, measured: `python -m benchmarks.forward`, or `make bench` for the short round."""
