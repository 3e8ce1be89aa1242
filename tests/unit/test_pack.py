"""Packs: what is whole loads, everything else is one clear error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgegen import pack
from edgegen.errors import NotFoundError, PackError
from edgegen.pack import loading, schema
from tests.fakes import packs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pack of a tiny model, with a second file."""
    return packs.make(tmp_path / "pack", version="1.0")


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
    packs.change(folder, signature="x")
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


@pytest.mark.parametrize(("key", "ours"), [("format", pack.FORMAT), ("prompt_format", pack.PROMPT_FORMAT)])
def test_a_newer_pack_says_so(folder: Path, key: str, ours: int) -> None:
    """The way out is an update of edgegen, not another copy."""
    packs.change(folder, **{key: ours + 1})
    with pytest.raises(PackError, match=rf"{key} {ours + 1}; this edgegen reads up to {ours}\. Update edgegen"):
        pack.load(folder)


def test_a_model_of_older_prompts_is_refused(folder: Path) -> None:
    """It would read prompts that it has never seen."""
    packs.change(folder, prompt_format=pack.PROMPT_FORMAT - 1)
    with pytest.raises(PackError, match=r"has not learnt\. Train it again"):
        pack.load(folder)


SHA = "0" * 64
ANY = {"size": 1, "sha256": SHA}
LARGE = {"size": (8 << 30) - 1, "sha256": SHA}
BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"format": None}, "format is None"),
    ({"format": True}, "format is True"),
    ({"prompt_format": "1"}, "prompt_format is '1'"),
    ({"name": None}, "name is missing"),
    ({"version": 3}, "version is 3, not a text"),
    ({"languages": []}, "languages"),
    ({"tasks": "reason"}, "tasks"),
    ({"evaluation": []}, "evaluation"),
    ({"files": None}, "files is missing"),
    ({"files": {}}, "files.model.gguf is missing"),
    ({"files": {"model.gguf": {"size": 1}}}, "files.model.gguf.sha256 is missing"),
    ({"files": {"model.gguf": None}}, "files.model.gguf is None, not an object with size and sha256"),
    ({"files": {"model.gguf": ANY, "../x": ANY}}, "not a plain file name"),
    ({"files": {"model.gguf": ANY, "C:\\x": ANY}}, "not a plain file name"),
    ({"files": {"model.gguf": {"size": -1, "sha256": SHA}}}, "size is -1, not a size in bytes"),
    ({"files": {"model.gguf": {"size": True, "sha256": SHA}}}, "size is True, not a size in bytes"),
    ({"files": {"model.gguf": {"size": 1 << 40, "sha256": SHA}}}, "size is 1099511627776, not a size in bytes, less than 8 GiB"),
    ({"files": {"model.gguf": {"size": 1, "sha256": "A" * 64}}}, "not 64 hexadecimal digits"),
    ({"files": dict.fromkeys(("model.gguf", *map(str, range(64))), ANY)}, "at most 64 files"),
    ({"files": dict.fromkeys(("model.gguf", "b", "c"), LARGE)}, "more than 16"),
    ({"files": {"model.gguf": ANY, "Model.GGUF": ANY}}, "two of its files have one name"),
    ({"files": {"model.gguf": ANY, "Manifest.json": ANY}}, "two of its files have one name"),
    ({"architecture": "gpt2\x1b[2J"}, "architecture is 'gpt2.x1b.2J', not a text"),
    ({"licence": ""}, "licence is '', not a text"),
    ({"name": "../x"}, "name is '../x', not a text of at most 64 letters"),
    ({"version": "1/2"}, "version is '1/2'"),
    ({"name": "a\n"}, "name is"),
    ({"architecture": "llama"}, "the manifest says llama, the model is 'gpt2'"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "what"), BROKEN)
def test_a_broken_manifest(folder: Path, changes: dict[str, Any], what: str) -> None:
    """The message says which entry."""
    packs.change(folder, **changes)
    with pytest.raises(PackError, match=what):
        pack.load(folder)


TWICE = '{"format": 1, "format": 2}'


@pytest.mark.parametrize("text", ["", "{", "[]", "\ufeff{}", '"x"', TWICE, "[" * 100_000, '{"a": NaN}', '{"a": "\\ud800"}'])
def test_a_manifest_that_is_none(folder: Path, text: str) -> None:
    """Garbage is an error of the pack and no crash."""
    (folder / pack.MANIFEST).write_text(text, "utf-8")
    with pytest.raises(PackError, match=r"manifest\.json"):
        pack.load(folder)


def test_bundled_is_found_in_package_or_checkout(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The installed one comes first; where there is none, the message says what to do."""
    package = tmp_path / "site" / "edgegen"
    monkeypatch.setattr(loading, "_PACKAGE", package)
    with pytest.raises(PackError, match="no bundled pack"):
        pack.bundled()
    checkout = tmp_path / "site" / "models" / "bundled"
    for place in (checkout, package / "_pack"):
        place.mkdir(parents=True)
        (place / pack.MANIFEST).write_bytes((folder / pack.MANIFEST).read_bytes())
        assert pack.bundled() == place


def test_a_manifest_may_not_be_huge(folder: Path) -> None:
    """It is not even read."""
    with (folder / pack.MANIFEST).open("r+b") as file:
        file.truncate(5 << 20)
    with pytest.raises(PackError, match="5242880 bytes, 4194304 are the most"):
        pack.load(folder)


@pytest.mark.parametrize("name", ["manifest.json", "model.gguf", "card.md", "signature.json"])
def test_links_and_folders_in_a_pack(folder: Path, tmp_path: Path, name: str) -> None:
    """A link is not followed, wherever it leads; a folder is no file."""
    target = tmp_path / "elsewhere"
    target.write_bytes((folder / name).read_bytes() if (folder / name).exists() else b"{}")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(target)
    with pytest.raises(PackError, match=f"{name} is a link"):
        pack.load(folder)
    (folder / name).unlink()
    if name != "manifest.json":
        (folder / name).mkdir()
        with pytest.raises(PackError, match=f"{name} is not a regular file"):
            pack.load(folder)


def test_a_folder_may_be_reached_by_a_link(folder: Path, tmp_path: Path) -> None:
    """Links outside a pack are the user's own."""
    (tmp_path / "link").symlink_to(folder)
    assert pack.load(tmp_path / "link").manifest.name == "tiny"


def test_the_schema_is_checked_whole() -> None:
    """Every part says what it wants in words; an unknown keyword is not passed over."""

    def walk(part: dict[str, Any]) -> None:
        assert "$ref" in part or part["description"]
        inner = [*part.get("properties", {}).values(), *part.get("$defs", {}).values()]
        for each in [*inner, *(part[key] for key in ("items", "propertyNames", "additionalProperties") if key in part)]:
            walk(each)

    walk(schema.manifest_schema())
    with pytest.raises(NotImplementedError, match="uses oneOf"):
        schema.check(1, {"oneOf": [], "description": "a thing"})


def test_the_schema_requires_what_a_manifest_has(folder: Path) -> None:
    """The class and the schema do not drift apart."""
    written = pack.read_manifest(folder).to_json()
    assert sorted(schema.manifest_schema()["required"]) == sorted(written) == sorted(schema.manifest_schema()["properties"])
