"""llama-server's own test files on `edgegen serve`: `make conformance`. The files come from the sdist and are not kept here."""
