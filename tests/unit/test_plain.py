"""A GPT-2 without edgegen's tokens: converted and compared on plain texts; its pack serves completions and no task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from convert import gpt2, plain, verify
from convert.build import About, build_packs
from convert.checkpoint import open_checkpoint
from edgegen import pack
from edgegen.cli import main
from edgegen.engine.llama import LlamaBackend, LlamaOptions
from edgegen.errors import ConvertError, PackError, UsageError
from edgegen.pack import modelfile
from edgegen.server import make_app
from edgegen.serving.launch import Launch
from edgegen.serving.supervisor import Supervisor
from tests.fakes.checkpoints import PAIRS, TEXTS, make_checkpoint
from tests.unit.test_wordpiece import make as make_wordpiece


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny one with GPT-2's own end token alone."""
    folder, words = tmp_path_factory.mktemp("plain") / "stock", Tokenizer(models.BPE())
    words.pre_tokenizer, words.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False, special_tokens=[]
    )
    words.train_from_iterator(TEXTS, trainer)
    words.add_special_tokens([AddedToken("<|endoftext|>", special=True, normalized=False)])
    end = {f"{name}_token": "<|endoftext|>" for name in ("bos", "eos", "unk")}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=words, **end)
    wrapped.save_pretrained(folder)
    torch.manual_seed(3)
    ids = {"bos_token_id": wrapped.eos_token_id, "eos_token_id": wrapped.eos_token_id}
    sizes = {"n_positions": 256, "n_embd": 64, "n_layer": 2, "n_head": 4, "initializer_range": 0.15}
    GPT2LMHeadModel(GPT2Config(vocab_size=len(wrapped), **sizes, **ids)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def made(checkpoint: Path) -> pack.Pack:
    """Its pack."""
    return pack.load(build_packs(checkpoint, checkpoint.parent / "pack", About("plain"), pairs=PAIRS)[0])


def test_it_is_compared_on_plain_texts(checkpoint: Path, made: pack.Pack) -> None:
    """Equal within rounding; the texts have values in place of slots; the pack names no task."""
    exact = made.manifest.equality["f32"]
    assert exact["max_logit_error"] < 0.01 * exact["logit_spread"]
    assert exact["greedy_equal"] == exact["greedy_prompts"] == len(PAIRS)
    assert (made.manifest.tasks, exact["positions"] > 20) == ((), True)
    encoder = plain.encoder(open_checkpoint(checkpoint).tokenizer)
    example = encoder.pair(replace(PAIRS[0], text="<|v1|> costs <|v4|>, for a small room."))
    assert list(example.ids) == encoder.text_ids("Oak desk costs $120, for a small room.")
    assert 0 < example.start < len(example.ids)
    assert "none of edgegen's tasks" in (made.folder / modelfile.NAME).read_text("utf-8")


def test_tasks_need_the_tokens(checkpoint: Path, tmp_path: Path) -> None:
    """Tasks of a model without the tokens, and no task of one that has them, are refused; nothing is written."""
    with pytest.raises(ConvertError, match=r"lacks edgegen's tokens \(<\|pad\|>, .*--tasks none"):
        build_packs(checkpoint, tmp_path / "pack", About("plain", tasks=["reason"]), pairs=PAIRS)
    own = make_checkpoint(tmp_path / "own")
    with pytest.raises(UsageError, match="needs one task at least"):
        build_packs(own, tmp_path / "pack", About("own"), pairs=PAIRS)
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


def test_a_chinese_one_ends_at_its_separator(tmp_path: Path) -> None:
    """A WordPiece as it is published, without an end token and edgegen's: compared, and a text can end."""
    opened = open_checkpoint(make_wordpiece(tmp_path / "zh", specials=False))
    path = gpt2.write(opened, tmp_path / "zh.gguf")
    verify.require_equal(verify.compare(opened, path, PAIRS), path)
    backend = LlamaBackend(path, LlamaOptions(max_sequences=1))
    assert backend.eos == opened.tokenizer.sep_token_id
    backend.close()


def test_explain_says_what_is_missing(made: pack.Pack, capsys: pytest.CaptureFixture[str]) -> None:
    """The command ends with the pack's exit code before a model is loaded."""
    assert main(["explain", "--pack", str(made.folder), "--limit", "1"]) == PackError.exit_code
    assert "names no tasks: its model has no slot tokens" in capsys.readouterr().err


async def test_completions_work(made: pack.Pack) -> None:
    """The server completes text with it; explanations come from templates and say why."""
    service = Supervisor(Launch(pack=str(made.folder), threads=1))
    await service.start()
    try:
        app = make_app(service)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as http:
            done = await http.post("/v1/completions", json={"prompt": "A walnut desk", "max_tokens": 4, "temperature": 0})
            row = {"title": "Oak desk", "price": "120", "material": "oak"}
            told = await http.post("/v1/explanations", json={"product": row})
    finally:
        await service.drain(1)
    assert (done.status_code, told.status_code) == (200, 200)
    assert done.json()["usage"]["completion_tokens"] > 0
    assert (told.json()["source"], "no slot tokens" in told.json()["note"]) == ("template", True)
