"""What `bench/upstream.py` is made of: the reference's build, checkpoints, conversions in child processes, comparisons."""
