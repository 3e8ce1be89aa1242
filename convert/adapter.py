"""PEFT LoRA folder -> GGUF adapter, which llama.cpp adds to a model when it loads it, quantized or not.

W x + s B A x: llama.cpp takes s = alpha / rank with one alpha for the file and the rank of each B, so the alpha written is the
usual one and what a module has of its own goes into its B. PEFT keeps A as [r, in] and B as [out, r] for Conv1D too, which is
GGUF's order. Layout: `llama_adapter_lora_init` of llama.cpp and https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import gguf
import numpy as np
from peft import PeftModel

from convert import adapter_config, gpt2, verify, weights
from convert import config as configs
from convert.checkpoint import Checkpoint, open_checkpoint, open_words
from convert.merge import attached, base_of
from convert.output import whole
from convert.samples import of_corpus
from convert.verify import Equality
from convert.weights import Stored, Weights
from edgegen.engine.adapter import BASE, base_digest
from edgegen.engine.gguf import read_header
from edgegen.errors import ConvertError, UsageError
from edgegen.train.pairs import Pair

SHARE = 0.05
"""The largest difference of logits that is let through, as a share of the largest change that the adapter makes..."""
NOISE = 3
"""...or as a multiple of the difference that the base alone has, where the adapter changes little."""
_GGUF = {theirs: ours for ours, theirs in gpt2.NAMES.items() if not theirs.startswith("ln_")}
_MATRIX = re.compile(rf"base_model\.model\.(transformer\.h\.(\d+)\.({'|'.join(_GGUF)}))\.lora_([AB])\.weight")


@dataclass(frozen=True, slots=True)
class Module:
    """What one matrix of the base gets: A [rank, in] and B [out, rank]; `target` is GGUF's name of the matrix."""

    name: str
    target: str
    a: Stored
    b: Stored


def write(adapter: Path, target: Path, base: str | Path | None = None, pairs: Sequence[Pair] | None = None) -> Path:
    """Write the GGUF adapter of a PEFT folder, compare base and adapter in llama.cpp and PyTorch, and return `target`.

    `base` is the checkpoint that the adapter was trained on; None takes the one it names, or `base` beside it. The comparison
    runs on `pairs`; None takes held-out ones of the corpus, one of every task and language.

    Raises UsageError, NotFoundError, StorageError, and ConvertError naming what a GGUF adapter cannot hold; then nothing is
    written.
    """
    if target.is_dir():
        raise UsageError(f"{target} is a folder; a GGUF adapter is a file. Choose another path.")
    adapter_config.check(adapter)
    modules = _modules(weights.of_adapter(adapter), adapter)
    opened = open_checkpoint(base_of(adapter) if base is None else base)
    _check_tokenizer(adapter, opened)
    pairs = of_corpus("test", 1) if pairs is None else pairs
    with whole(target) as part, TemporaryDirectory(dir=part.parent, prefix=f".{part.name}-") as room:
        exact = gpt2.write(opened, Path(room) / "base.gguf")
        plain = verify.compare(opened, exact, pairs)  # before PEFT puts its layers into the same model
        tuned = attached(opened.model, adapter)
        _write(part, adapter.name, modules, _scales(tuned, modules, adapter), base_digest(exact, read_header(exact)))
        both = replace(opened, built=tuned.get_base_model())
        found, change = verify.compare(both, exact, pairs, part), verify.compare(both, exact, pairs)
        _require_same(found, plain, change.max_logit_error, target)
    return target


def _modules(found: Weights, adapter: Path) -> list[Module]:
    """The pairs of matrices, by layer and name. Raises ConvertError for other tensors and for pairs that are none."""
    matched = {match: stored for name, stored in found.items() if (match := _MATRIX.fullmatch(name))}
    if odd := sorted(set(found) - {match.string for match in matched}):
        raise adapter_config.refused(adapter, f"it changes {', '.join(odd[:3])}, not only the four matrices of a block")
    sides = {(match[1], match[4]): stored for match, stored in matched.items()}
    targets = {match[1]: f"blk.{match[2]}.{_GGUF[match[3]]}.weight" for match in matched}
    modules = []
    for name, target in targets.items():
        a, b = sides.get((name, "A")), sides.get((name, "B"))
        if a is None or b is None or not len(a.shape) == len(b.shape) == 2 or a.shape[0] != b.shape[1]:
            raise ConvertError(f"{adapter}: {name} has no A [rank, in] and B [out, rank] that fit. Save the adapter again.")
        modules.append(Module(name, target, a, b))
    if not modules:
        raise ConvertError(f"{adapter} holds no matrices. Save the adapter again.")
    return modules


def _check_tokenizer(adapter: Path, opened: Checkpoint) -> None:
    """An adapter runs with the tokens of the model it goes on, so tokens of its own would be read as others."""
    if not (adapter / "tokenizer.json").is_file():
        return
    own, theirs = open_words(adapter, configs.read(opened.folder)).vocab, opened.words.vocab
    if own != theirs:
        raise adapter_config.refused(adapter, f"its {len(own)} tokens are not the {len(theirs)} of its base")


def _scales(tuned: PeftModel, modules: Sequence[Module], adapter: Path) -> dict[str, float]:
    """The scale of each module as PEFT takes it from the config: rank, alpha, their patterns, rsLoRA."""
    layers = {name: layer for name, layer in tuned.get_base_model().named_modules() if hasattr(layer, "lora_A")}
    if differ := sorted(set(layers) ^ {module.name for module in modules}):
        raise ConvertError(f"{adapter}: the config and the weights differ on {', '.join(differ[:3])}. Save the adapter again.")
    return {name: float(layer.scaling[tuned.active_adapter]) for name, layer in layers.items()}


def _write(part: Path, name: str, modules: Sequence[Module], scales: Mapping[str, float], digest: str) -> None:
    alphas = {module.name: scales[module.name] * module.a.shape[0] for module in modules}
    alpha = next(iter(alphas.values()))
    writer = gguf.GGUFWriter(part, "gpt2")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_name(name)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
    writer.add_string(BASE, digest)
    for module in modules:
        writer.add_tensor(f"{module.target}.lora_a", module.a.load())
        writer.add_tensor(f"{module.target}.lora_b", module.b.load() * np.float32(alphas[module.name] / alpha))
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _require_same(found: Equality, plain: Equality, change: float, target: Path) -> None:
    """Raise ConvertError where base and adapter differ from PyTorch's by more than rounding explains.

    `plain` is the comparison of the bases alone, `change` the largest difference that the adapter makes to a logit.
    """
    verify.require_equal(found, target)
    limit = max(NOISE * plain.max_logit_error, SHARE * change)
    if not found.max_logit_error <= limit:
        raise ConvertError(
            f"{target.name}: with the adapter, logits differ by {found.max_logit_error:.3g} from PyTorch's, rounding explains "
            f"{limit:.3g}. Nothing was written; merge the adapter instead, and please report its adapter_config.json."
        )
