"""Opens what a Launch says: verified pack, engine, explainer; and proves that it generates before anybody relies on it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from edgegen import hardware
from edgegen.domain import LANGS, Fact, Kind, Lang, Request, Section
from edgegen.engine import open_engine
from edgegen.engine.gguf import Header, read_header
from edgegen.engine.llama import LlamaBackend, LlamaOptions
from edgegen.engine.loop import Engine
from edgegen.engine.options import SamplingOptions
from edgegen.errors import EdgegenError, EngineError, StorageError
from edgegen.explain import Explainer, ExplainOptions
from edgegen.pack import Pack
from edgegen.pack.installed import chosen
from edgegen.serving.calls import Complete, Ended, Explain, Explained, Part, State
from edgegen.serving.launch import Launch
from edgegen.serving.runner import Runner, describe

Say = Callable[[str], object]
_TRIAL_S = 90.0
_TRIAL_FACTS = (
    Fact("name", "Oak Desk", Kind.TEXT),
    Fact("category", "desk", Kind.PHRASE),
    Fact("price", Decimal(120), Kind.MONEY, currency="USD"),
    Fact("rating", Decimal("4.8"), Kind.RATING),
)
_STARTS_WITH_BOS = ("llama-bpe", "llama3", "llama-v3")  # pre-tokenizers that imply it where the file does not say


def opened(launch: Launch, say: Say) -> tuple[Runner, State]:
    """What a launch opens, once a real generation has worked, and what is known of it; `say` is told what a person should know.

    Raises NotFoundError, PackError, SignatureError, UsageError, MissingExtraError, EngineError.
    """
    pack = None if launch.model else chosen(Path(launch.pack) if launch.pack else None, say)
    model = pack.model if pack else Path(launch.model or "")
    header = read_header(model)
    known = hardware.known(model)
    fastest = known.fastest or known.setting
    rungs = hardware.ladder(model, replace(fastest, threads=launch.threads) if launch.threads else fastest)
    at = hardware.rung(rungs, known.avoided, launch.caution)
    adapter = Path(launch.adapter) if launch.adapter else None
    used = list[LlamaOptions]()  # fewer layers than asked for, where a GPU has not room for all

    def load(path: Path, options: LlamaOptions) -> LlamaBackend:
        used.append(options)
        return LlamaBackend(path, options)

    engine = open_engine(
        model, setting=replace(rungs[at], threads=1), max_waiting=launch.max_waiting, adapter=adapter, n_ctx=launch.context,
        n_cells=launch.cells, table=pack.drafts if pack else None, load=load,
    )  # fmt: skip
    info = _info(pack, model) | ({"adapter": adapter.name} if adapter else {})
    explainer = _explainer(engine, pack, adapter, info["label"], say)
    runner = Runner(explainer, engine, info["label"])
    prove(runner, _languages(pack) if explainer.has_model else ())
    engine.most_threads = rungs[at].threads  # not before: where the machine is busy, a step on several may take a minute
    if crashed := [rungs[step] for step in launch.faulted if step < at]:
        with suppress(StorageError):  # it is found out again, then
            hardware.avoid(model, crashed)
    setting = replace(rungs[at], gpu_layers=used[-1].gpu_layers)
    how = {"explains": explainer.has_model, "setting": str(setting), "caution": at}
    return runner, describe(engine, info, **how, **_of_header(header, engine))


def _info(pack: Pack | None, model: Path) -> dict[str, Any]:
    if pack is None:
        file = model.stat()
        return {"name": model.stem, "label": model.stem, "path": str(model), "digest": _digest(file.st_size, file.st_mtime_ns)}
    found = pack.manifest
    return {
        "name": found.name, "version": found.version, "languages": list(found.languages), "label": found.label,
        "path": str(pack.folder), "digest": _digest(*sorted((name, entry.sha256) for name, entry in found.files.items())),
    }  # fmt: skip


def _digest(*what: Any) -> str:
    """Tells packs of one label apart, and models that lay under one name one after the other."""
    return hashlib.sha256(repr(what).encode()).hexdigest()[:16]


def _explainer(engine: Engine, pack: Pack | None, adapter: Path | None, label: str, say: Say) -> Explainer:
    if pack is None or not pack.manifest.tasks:
        say(f"{label} names no tasks: its model completes plain text, explanations come from templates")
        return Explainer(None, without=f"The model of {label} has no slot tokens and completes plain text only")
    if adapter is not None and pack.licensing is not None:
        say("the pack's licensing table is left out: it knows the words of the pack's training texts, not the adapter's")
        return Explainer(engine)
    return Explainer(engine, pack.licensing)


def _languages(pack: Pack | None) -> Sequence[Lang]:
    if pack is None or "reason" not in pack.manifest.tasks:
        return ()
    return [lang for lang in LANGS if lang in pack.manifest.languages]


def _of_header(header: Header, engine: Engine) -> dict[str, Any]:
    """What State says of chats and control tokens."""
    meta, vocabulary = header.meta, engine.vocabulary
    template = meta.get("tokenizer.chat_template")
    found = {name: meta.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos")}
    specials = {
        name: vocabulary.text([id_]) for name, id_ in found.items() if isinstance(id_, int) and 0 <= id_ < len(vocabulary.pieces)
    }
    return {
        "chat_template": template if isinstance(template, str) else None,
        "specials": specials,
        "starts_with_bos": "bos" in specials and _starts_with_bos(meta),
        "controls": frozenset(vocabulary.text([id_]) for id_ in vocabulary.controls),
    }


def _starts_with_bos(meta: Mapping[str, Any]) -> bool:
    implied = meta.get("tokenizer.ggml.model") == "llama" or meta.get("tokenizer.ggml.pre") in _STARTS_WITH_BOS
    return bool(meta.get("tokenizer.ggml.add_bos_token", implied))


def prove(runner: Runner, languages: Sequence[Lang]) -> None:
    """Write a few tokens, and one explanation in each of the languages, with the model. Raises EngineError or what they raise."""
    few = SamplingOptions(temperature=0, max_new_tokens=4)
    ended = _asked(partial(runner.complete, Complete((Part("The"),), options=few, ignore_end=True)))
    if ended.completion_tokens < 1:
        raise EngineError("The model wrote nothing in its trial. Do not use it.")
    for lang in languages:
        options = ExplainOptions(n=1, rewrite=False, deadline_s=2 * _TRIAL_S)  # `_asked` is the one that loses patience
        call = Explain(Request("reason", lang, (Section("item", _TRIAL_FACTS),)), options)
        record = _asked(partial(runner.explain, call)).record
        if record["note"] is not None or not record["tokens"]:
            raise EngineError(f"The model wrote no explanation in its trial: {record['note'] or 'not a token'}. Do not use it.")


def _asked(call: Callable[[Callable[[Any], None]], object]) -> Any:
    """What a call tells at its end. Raises the error that it tells, EngineError where it takes too long."""
    done: Future[Any] = Future()
    used_s = time.process_time()

    def tell(answer: Any) -> None:
        if isinstance(answer, EdgegenError):
            done.set_exception(answer)
        elif isinstance(answer, (Ended, Explained)):
            done.set_result(answer)

    call(tell)
    try:
        return done.result(_TRIAL_S)
    except TimeoutError:
        busy = hardware.starved(_TRIAL_S, time.process_time() - used_s)
        raise EngineError(busy or f"The trial took more than {_TRIAL_S:g} s. Use a smaller model.") from None
