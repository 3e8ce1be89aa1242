"""From checkpoint to pack and back: merge, HF -> GGUF, quantize, verify, build, restore. Needs the `train` extra."""
