"""The terminal for shop staff, on Textual. Talks to edgegen's HTTP API only, so it can run on another machine."""
