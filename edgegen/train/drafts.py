"""A draft table for a pack that is there already, from pairs as its model was trained on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import gguf

from convert import restore
from edgegen.engine.gguf import read_header
from edgegen.engine.ngrams import NGrams
from edgegen.train.dataset import Encoder, PairDataset, draft_table
from edgegen.train.pairs import Pair


def of_model(model: Path, pairs: Iterable[Pair]) -> NGrams:
    """What mostly follows what in the texts of pairs, in a GGUF model's tokens. Raises ConvertError, DataError, PackError."""
    header = read_header(model)
    encoder = Encoder(restore.tokenizer(gguf.GGUFReader(model)))
    return draft_table(PairDataset(encoder, pairs, header.n_ctx_train), header.lengths["tokenizer.ggml.tokens"])
