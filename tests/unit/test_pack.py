"""Packs: what is whole loads, everything else is one clear error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgegen import pack
from edgegen.errors import NotFoundError, PackError
from edgegen.pack import Manifest
from tests.fakes.tiny_gguf import write_tiny_gguf


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pack of a tiny model, with a second file."""
    folder = tmp_path / "pack"
    folder.mkdir()
    write_tiny_gguf(folder / pack.MODEL)
    (folder / "card.md").write_text("# A pack\n", "utf-8")
    files = pack.describe(folder, [pack.MODEL, "card.md"])
    manifest = Manifest("tiny", "1.0", ("en", "zh"), ("reason",), "gpt2", "f32", files, "Apache-2.0", {"seed": 7})
    pack.write_manifest(folder, manifest)
    return folder


def change(folder: Path, **changes: Any) -> None:
    """Write values into the manifest; None takes a key out."""
    path = folder / pack.MANIFEST
    raw = json.loads(path.read_text("utf-8")) | changes
    path.write_text(json.dumps({k: v for k, v in raw.items() if v is not None}), "utf-8")


def test_a_whole_pack_loads(folder: Path) -> None:
    """What was written is read."""
    loaded = pack.load(folder)
    manifest = loaded.manifest
    assert loaded.model == folder / "model.gguf"
    assert (manifest.name, manifest.version, manifest.languages, manifest.tasks) == ("tiny", "1.0", ("en", "zh"), ("reason",))
    assert manifest.provenance == {"seed": 7}
    assert manifest.files["card.md"].size == 9
    assert (manifest.format, manifest.prompt_format) == (pack.FORMAT, pack.PROMPT_FORMAT)


def test_the_manifest_is_written_in_one_way(folder: Path) -> None:
    """Reading and writing again gives the same bytes, format first."""
    before = (folder / pack.MANIFEST).read_bytes()
    pack.write_manifest(folder, pack.read_manifest(folder))
    assert (folder / pack.MANIFEST).read_bytes() == before
    assert before.startswith(b'{\n  "format": 1,')


def test_unknown_keys_are_left_alone(folder: Path) -> None:
    """A later edgegen may say more in the same format."""
    change(folder, signature="x")
    assert pack.load(folder).manifest.name == "tiny"


def test_a_missing_pack(tmp_path: Path) -> None:
    """Neither a folder nor an empty folder is a pack."""
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(NotFoundError, match=r"no pack at .*Give the folder"):
            pack.load(path)


@pytest.mark.parametrize("name", ["model.gguf", "card.md"])
def test_missing_cut_and_changed_files(folder: Path, name: str) -> None:
    """Each file is checked, and named."""
    path = folder / name
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(PackError, match=rf"{name} has {len(data) - 1} bytes, {len(data)} are expected"):
        pack.load(folder)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(PackError, match=f"{name} is damaged: its SHA-256"):
        pack.load(folder)
    path.unlink()
    with pytest.raises(PackError, match=f"{name} is missing"):
        pack.load(folder)


@pytest.mark.parametrize("key", ["format", "prompt_format"])
def test_a_newer_pack_says_so(folder: Path, key: str) -> None:
    """The way out is an update of edgegen, not another copy."""
    change(folder, **{key: 2})
    with pytest.raises(PackError, match=rf"{key} 2; this edgegen reads up to 1\. Update edgegen"):
        pack.load(folder)


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"format": None}, "format is None"),
    ({"format": True}, "format is True"),
    ({"prompt_format": "1"}, "prompt_format is '1'"),
    ({"name": None}, "name is missing"),
    ({"version": 3}, "version is missing or not a text"),
    ({"languages": []}, "languages"),
    ({"tasks": "reason"}, "tasks"),
    ({"evaluation": []}, "evaluation"),
    ({"files": None}, "files does not list model.gguf"),
    ({"files": {"model.gguf": {"size": 1}}}, "lacks its size or sha256"),
    ({"files": {"model.gguf": None}}, "lacks its size or sha256"),
    ({"files": {"model.gguf": {"size": 1, "sha256": ""}, "../x": {"size": 1, "sha256": ""}}}, "not a plain file name"),
    ({"files": {"model.gguf": {"size": 1, "sha256": ""}, "C:\\x": {"size": 1, "sha256": ""}}}, "not a plain file name"),
    ({"architecture": "llama"}, "the manifest says llama, the model is gpt2"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "what"), BROKEN)
def test_a_broken_manifest(folder: Path, changes: dict[str, Any], what: str) -> None:
    """The message says which entry."""
    change(folder, **changes)
    with pytest.raises(PackError, match=what):
        pack.load(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "\ufeff{}", '"x"'])
def test_a_manifest_that_is_none(folder: Path, text: str) -> None:
    """Garbage is an error of the pack and no crash."""
    (folder / pack.MANIFEST).write_text(text, "utf-8")
    with pytest.raises(PackError, match=r"manifest\.json"):
        pack.load(folder)


def test_bundled_is_found_in_package_or_checkout(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The installed one comes first; where there is none, the message says what to do."""
    package = tmp_path / "site" / "edgegen"
    monkeypatch.setattr(pack, "_PACKAGE", package)
    with pytest.raises(PackError, match="no bundled pack"):
        pack.bundled()
    checkout = tmp_path / "site" / "models" / "bundled"
    for place in (checkout, package / "_pack"):
        place.mkdir(parents=True)
        (place / pack.MANIFEST).write_bytes((folder / pack.MANIFEST).read_bytes())
        assert pack.bundled() == place
