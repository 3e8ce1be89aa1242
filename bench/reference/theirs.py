"""llama.cpp's converter, with a name for tokenizers whose hash it does not know.

    python theirs.py TREE CONVERTER_ARGUMENTS...

It looks up the pre-tokenisation by a hash of the tokens of a text and stops at those it has not met. A program that uses it for a
tokenizer of one's own has to register that hash; this one registers every unknown hash as `gpt-2`, in memory.
"""

from __future__ import annotations

import importlib
import runpy
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    tree = Path(sys.argv[1])
    sys.path[:1] = [str(tree), str(tree / "gguf-py")]
    models = importlib.import_module("conversion.base").TextModel
    look_up = models.get_vocab_base_pre

    def named(self: Any, tokenizer: Any) -> str:
        """What the converter finds, or else `gpt-2`."""
        try:
            return str(look_up(self, tokenizer))
        except NotImplementedError:
            return "gpt-2"

    models.get_vocab_base_pre = named
    sys.argv = [str(tree / "convert_hf_to_gguf.py"), *sys.argv[2:]]
    runpy.run_path(sys.argv[0], run_name="__main__")
