"""Packs in one file: what `edgegen pack build` writes is read, any other archive is refused with its reason."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edgegen import folders, pack
from edgegen.errors import NotFoundError, PackError, SignatureError, UsageError
from edgegen.pack import archive, building, loading, source
from edgegen.pack.installed import Installed, chosen
from tests.fakes import packs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A signed pack whose signer is trusted."""
    return packs.sign(packs.make(tmp_path / "pack"), packs.trusted(tmp_path))


@pytest.fixture
def file(folder: Path, tmp_path: Path) -> Path:
    """The same in one file."""
    return packs.write_file(tmp_path / "tiny.egpack", packs.members(folder))


def test_a_file_holds_what_the_folder_held(file: Path, folder: Path) -> None:
    """It loads from the cache, the second time without another copy; the signer is known."""
    loaded = pack.load(file)
    assert loaded.model.read_bytes() == (folder / pack.MODEL).read_bytes()
    assert loaded.folder.is_relative_to(folders.cache()) and loaded.signer and loaded.signer.label == "acme"
    before = loaded.model.stat()
    assert pack.load(file).model.stat() == before


def test_a_damaged_copy_in_the_cache_is_made_anew(file: Path, folder: Path) -> None:
    """What lies in the cache is checked each time."""
    model = pack.load(file).model
    model.write_bytes(b"GGUF")
    assert pack.load(file).model.read_bytes() == (folder / pack.MODEL).read_bytes()
    assert packs.leftovers().count("model.gguf") == 1


def test_any_tar_program_reads_it(file: Path, folder: Path) -> None:
    """The shape is plain ustar."""
    with tarfile.open(file, "r:") as found:
        assert {m.name: m.size for m in found} == {p.name: p.stat().st_size for p in folder.iterdir()}
        assert all(m.isreg() and m.mode == 0o644 and m.mtime == m.uid == 0 for m in found)
        content = found.extractfile("model.gguf")
        assert content and content.read() == (folder / pack.MODEL).read_bytes()


def test_a_link_to_a_pack_file(file: Path, tmp_path: Path) -> None:
    """The way to a pack is the user's own."""
    (tmp_path / "link.egpack").symlink_to(file)
    assert pack.load(tmp_path / "link.egpack").manifest.name == "tiny"


# --- other archives


def tar(*entries: tarfile.TarInfo | tuple[str, bytes], form: int = tarfile.USTAR_FORMAT) -> bytes:
    """What a tar program makes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as made:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                made.addfile(entry)
            else:
                info = tarfile.TarInfo(entry[0])
                info.size = len(entry[1])
                made.addfile(info, io.BytesIO(entry[1]))
    return out.getvalue()


def special(kind: bytes) -> bytes:
    """An archive of one entry that is not a regular file."""
    info = tarfile.TarInfo("manifest.json")
    info.type, info.linkname = kind, "/etc/passwd"
    return tar(info)


def zipped(content: list[tuple[str, bytes]]) -> bytes:
    """A zip, as small as it gets."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in content:
            made.writestr(name, data)
    return out.getvalue()


Make = Callable[[list[tuple[str, bytes]]], bytes]
OTHERS: dict[str, tuple[Make, str]] = {
    "empty": (lambda m: b"", "is empty"),
    "garbage": (lambda m: b"nothing" * 500, "is not a pack file"),
    "only an end": (lambda m: bytes(1024), "does not begin with manifest.json"),
    "a zip bomb": (lambda m: zipped([("manifest.json", bytes(50_000_000))]), r"is compressed \(zip\)"),
    "gzip": (lambda m: gzip.compress(packs.as_bytes(m)), r"is compressed \(gzip\)"),
    "a symbolic link": (lambda m: special(tarfile.SYMTYPE), "is a link"),
    "a hard link": (lambda m: special(tarfile.LNKTYPE), "is a link"),
    "a folder": (lambda m: special(tarfile.DIRTYPE), "is a folder"),
    "a device": (lambda m: special(tarfile.CHRTYPE), "is a device"),
    "a pipe": (lambda m: special(tarfile.FIFOTYPE), "is a pipe"),
    "pax": (lambda m: tar(("清单.json", b"{}"), form=tarfile.PAX_FORMAT), "damaged, or not as"),
    "another tar program's": (lambda m: tar(*m), "damaged, or not as"),
    "a path that climbs out": (lambda m: packs.as_bytes([*m, ("../../x", b"x")]), r"'\.\./\.\./x' is not a plain file name"),
    "an absolute path": (lambda m: packs.as_bytes([*m, ("/tmp/x", b"x")]), "is not a plain file name"),  # noqa: S108
    "a hidden file": (lambda m: packs.as_bytes([*m, (".bashrc", b"x")]), "is not a plain file name"),
    "a file twice": (lambda m: packs.as_bytes([*m, m[-1]]), "is there twice"),
    "a file too many": (lambda m: packs.as_bytes([*m, ("x", b"x")]), r"not what its manifest lists \(x\)"),
    "a file too few": (lambda m: packs.as_bytes(m[:-1]), r"not what its manifest lists \(card.md\)"),
    "another order": (lambda m: packs.as_bytes([*m[:2], m[3], m[2]]), "their order"),
    "many files": (lambda m: packs.as_bytes([*m, *((f"f{i}", b"") for i in range(99))]), "more than 66 files"),
    "a longer file": (lambda m: packs.as_bytes([*m[:3], ("card.md", bytes(10))]), "has 10 bytes, 9 are expected"),
    "a huge manifest": (lambda m: packs.as_bytes([("manifest.json", bytes(5 << 20)), *m[1:]]), "4194304 are the most"),
    "a huge signature": (lambda m: packs.as_bytes([m[0], ("signature.json", bytes(5000)), *m[2:]]), "4096 are the most"),
    "cut off": (lambda m: packs.as_bytes(m)[:-600], "is cut off"),
    "cut off in a file": (lambda m: packs.as_bytes(m)[:200_000], "is cut off or damaged after model.gguf"),
    "more at the end": (lambda m: packs.as_bytes(m) + b"x", "something follows its end"),
    "zeros at the end": (lambda m: packs.as_bytes(m) + bytes(512), "something follows its end"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_other_archives(what: str, folder: Path, tmp_path: Path) -> None:
    """Each is refused with its reason, installed or only used, and nothing is left behind."""
    make, why = OTHERS[what]
    path = tmp_path / "bad.egpack"
    path.write_bytes(make(packs.members(folder)))
    for use in (pack.load, Installed(try_model=lambda _: None).install):
        with pytest.raises(PackError, match=why):
            use(path)
    assert packs.leftovers() == []


def test_an_archive_that_says_more_than_it_has(folder: Path, tmp_path: Path) -> None:
    """A size that is not there is found before anything is reserved for it."""
    path = tmp_path / "bad.egpack"
    path.write_bytes(archive.header(b"manifest.json", 8**11 - 1) + bytes(1024))
    with pytest.raises(PackError, match="is cut off or damaged after manifest.json"):
        pack.load(path)


@pytest.mark.parametrize("at", ["manifest", "signature", "header", "model", "card", "padding", "end"])
def test_flipped_bits(file: Path, at: str) -> None:
    """Wherever a bit is flipped, the pack is refused and the machine is as it was. `make tamper` flips ten thousand."""
    places = archive.index(file)
    data = bytearray(file.read_bytes())
    card = places["card.md"]
    where = {
        "manifest": places["manifest.json"].start + 30, "signature": places["signature.json"].start + 100,
        "header": places["model.gguf"].start - 400, "model": places["model.gguf"].start + 150_000, "card": card.start + 3,
        "padding": card.start + card.size + 7, "end": len(data) - 3,
    }[at]  # fmt: skip
    data[where] ^= 0x10
    file.write_bytes(data)
    for use in (pack.load, Installed(try_model=lambda _: None).install):
        with pytest.raises(PackError):
            use(file)
    assert packs.leftovers() == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_a_pipe_in_a_folder_does_not_hang(folder: Path) -> None:
    """It is refused before it is opened."""
    (folder / "card.md").unlink()
    os.mkfifo(folder / "card.md")
    with pytest.raises(PackError, match="not a regular file"):
        pack.load(folder)


# --- building


def test_build_adds_signs_and_packs(folder: Path, tmp_path: Path) -> None:
    """A folder becomes a file and back; the Modelfile names the model, the control token that ends a text, the licence."""
    key, licence = packs.trusted(tmp_path, "shop"), tmp_path / "LICENSE"
    licence.write_text("the licence", "utf-8")
    out = building.build(pack.load(folder), tmp_path / "own.egpack", key=key, extra=[licence], name="own", version="2.1")
    made = pack.load(out)
    assert made.manifest.label == "own@2.1" and made.signer == packs.public(key)
    assert list(made.manifest.files) == ["model.gguf", "card.md", "Modelfile", "LICENSE"]
    words = (made.folder / "Modelfile").read_text("utf-8")
    for line in ("FROM ./model.gguf", 'TEMPLATE """{{ .Prompt }}"""', 'PARAMETER stop "<|end|>"', "PARAMETER num_ctx 256"):
        assert line in words.splitlines()
    assert words.endswith('LICENSE """Apache-2.0"""\n')
    again = building.build(made, tmp_path / "folder", key=key)
    assert pack.load(again).manifest == made.manifest
    assert building.build(pack.load(again), tmp_path / "b.egpack", key=key).read_bytes() == out.read_bytes()
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


def test_build_without_a_key_is_not_signed(folder: Path, tmp_path: Path) -> None:
    """The old signature would not fit the new manifest."""
    made = pack.load(building.build(pack.load(folder), tmp_path / "out"))
    assert made.signer is None and not (made.folder / pack.SIGNATURE).exists()


def test_what_build_refuses(folder: Path, tmp_path: Path) -> None:
    """Nothing is overwritten, no file takes the place of a pack's own, a bad name is no pack; nothing is left."""
    made, out = pack.load(folder), tmp_path / "out"
    for extra in (tmp_path / "none", folder / "manifest.json", folder / "card.md"):
        with pytest.raises(UsageError, match="cannot be added|has a file card.md already"):
            building.build(made, out, extra=[extra])
    with pytest.raises(UsageError, match="is there already"):
        building.build(made, folder)
    with pytest.raises(UsageError, match="the pack's name is '../x', not a text of at most 64"):
        building.build(made, out, name="../x")
    with pytest.raises(NotFoundError, match="There is no key"):
        building.build(made, out, key=tmp_path / "none.key")
    assert not out.exists() and [path.name for path in tmp_path.glob(".*")] == []


# --- what --pack means


def test_a_path_goes_before_a_name(folder: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What exists is taken as a path; else an installed pack of that name, `bundled`, or nothing."""
    installed = Installed(try_model=lambda _: None)
    there = installed.install(file).folder
    monkeypatch.chdir(tmp_path)
    for wanted, expected in (("tiny", there), ("tiny@1", there), ("pack", Path("pack")), ("bundled", loading.bundled())):
        assert chosen(Path(wanted), pytest.fail).folder == expected
    for wanted in ("other", "sub/tiny"):
        with pytest.raises(NotFoundError, match=f"There is no pack at {wanted}"):
            chosen(Path(wanted), pytest.fail)


def test_a_pack_by_path_may_be_unsigned_but_not_badly_signed(folder: Path, tmp_path: Path) -> None:
    """Who names a path vouches for it; a signature that is there has to be right."""
    (folder / pack.SIGNATURE).unlink()
    assert pack.load(folder).signer is None
    packs.sign(folder, packs.untrusted(tmp_path))
    with pytest.raises(SignatureError, match="does not trust"):
        pack.load(folder)


def test_reading_needs_no_trust(folder: Path, tmp_path: Path) -> None:
    """A manifest can be looked at before its signer is trusted."""
    packs.sign(folder, packs.untrusted(tmp_path))
    assert source.read(folder).manifest.name == pack.read_manifest(folder).name == "tiny"
