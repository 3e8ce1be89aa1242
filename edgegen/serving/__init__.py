"""Between HTTP and the engine: the engine's process, its supervision, and the calls that cross over. Knows no HTTP."""
