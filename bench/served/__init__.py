"""What `bench/serve.py`, `bench/same.py` and `bench/soak.py` stand on: servers, prompts, load, memory."""
