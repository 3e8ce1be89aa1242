"""The training side; the runtime never imports it."""
