"""Installed packs: whole or not at all, whatever is killed; the active one, the one before it, and the way back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from edgegen import durable, folders, pack
from edgegen.errors import NotFoundError, PackError, SignatureError, StorageError, UsageError
from edgegen.pack import loading
from edgegen.pack.installed import Active, Installed, chosen
from tests.fakes import packs

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A private key whose packs the machine takes."""
    return packs.trusted(tmp_path)


@pytest.fixture
def old(tmp_path: Path, key: Path) -> Path:
    """A signed pack, old@1."""
    return packs.sign(packs.make(tmp_path / "old", "old"), key)


@pytest.fixture
def new(tmp_path: Path, key: Path) -> Path:
    """Another one, new@1, in one file."""
    folder = packs.sign(packs.make(tmp_path / "new", "new", seed=1), key)
    return packs.write_file(tmp_path / "new.egpack", packs.members(folder))


@pytest.fixture
def installed() -> Installed:
    """The machine's packs; models are not tried."""
    return Installed(try_model=lambda _: None)


def flip(path: Path, at: int = -1) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def model_of(folder: Path) -> bytes:
    """The model's bytes."""
    return (folder / pack.MODEL).read_bytes()


# --- install, activate, roll back


def test_the_way_of_two_packs(old: Path, new: Path, installed: Installed) -> None:
    """Installed is not active; activated is; rolled back is the one before; twice is forth again."""
    assert chosen(None, pytest.fail).folder == loading.bundled()
    for path in (old, new):
        assert installed.install(path).signer is not None
    assert installed.names() == ["new@1", "old@1"]
    assert chosen(None, pytest.fail).folder == loading.bundled()
    assert installed.activate("old").manifest.name == chosen(None, pytest.fail).manifest.name == "old"
    installed.activate("new@1")
    installed.activate("new@1")  # again changes nothing
    assert installed.state() == Active("new@1", "old@1")
    assert [installed.rollback().manifest.name for _ in range(3)] == ["old", "new", "old"]
    installed.activate("bundled")
    assert installed.state() == Active(None, "old@1")
    assert chosen(None, pytest.fail).folder == loading.bundled()


def test_nothing_to_go_back_to(installed: Installed, old: Path) -> None:
    """Before anything was activated there is no way back; after the first, the bundled pack is."""
    with pytest.raises(UsageError, match="nothing to go back to"):
        installed.rollback()
    installed.install(old)
    installed.activate("old")
    assert installed.rollback().folder == loading.bundled()


def test_installing_again(old: Path, installed: Installed, tmp_path: Path) -> None:
    """The same pack is there already; another of its name and version is refused; a damaged one is put right."""
    there = installed.install(old).folder
    before = (there / pack.MODEL).stat()
    assert installed.install(old).folder == there and (there / pack.MODEL).stat() == before
    other = packs.sign(packs.make(tmp_path / "other", "old", seed=5), tmp_path / "acme.key")
    with pytest.raises(PackError, match="Another pack is installed as old@1"):
        installed.install(other)
    assert model_of(there) == model_of(old)
    flip(there / pack.MODEL)
    installed.install(old)
    assert model_of(there) == model_of(old) and pack.load(there)
    flip(old / pack.MODEL)
    with pytest.raises(PackError, match="SHA-256"):
        installed.install(old)


def test_a_signature_is_added_to_an_unsigned_pack(tmp_path: Path, key: Path, installed: Installed) -> None:
    """The same pack, signed later, is signed here too."""
    folder = packs.make(tmp_path / "own")
    there = installed.install(folder, allow_unsigned=True).folder
    packs.sign(folder, key)
    installed.install(folder)
    assert pack.load(there).signer == packs.public(key)


def test_removing(old: Path, new: Path, installed: Installed) -> None:
    """The active pack stays; the one before it may go, and the bundled one takes its place."""
    for path in (old, new):
        installed.install(path)
    installed.activate("old")
    installed.activate("new")
    with pytest.raises(UsageError, match="new@1 is the active pack"):
        installed.remove("new")
    assert installed.remove("old") == "old@1"
    assert installed.names() == ["new@1"] and installed.state() == Active("new@1", None)
    with pytest.raises(NotFoundError, match="No installed pack is called old"):
        installed.activate("old")


def test_two_versions(tmp_path: Path, key: Path, installed: Installed) -> None:
    """A name that two packs have needs its version."""
    for version in ("1", "2"):
        installed.install(packs.sign(packs.make(tmp_path / version, version=version), key))
    with pytest.raises(UsageError, match="tiny is not one pack but 2: tiny@1, tiny@2"):
        installed.activate("tiny")
    assert installed.activate("tiny@2").manifest.version == "2"


# --- what is refused


def test_unsigned_and_unknown(tmp_path: Path, installed: Installed) -> None:
    """Unsigned packs need the option; a stranger's signature is refused with it too."""
    folder = packs.make(tmp_path / "own")
    with pytest.raises(SignatureError, match="has no signature.*--allow-unsigned"):
        installed.install(folder)
    packs.sign(folder, packs.untrusted(tmp_path))
    for allow in (False, True):
        with pytest.raises(SignatureError, match="whom this machine does not trust"):
            installed.install(folder, allow_unsigned=allow)
    assert packs.leftovers() == []
    (folder / pack.SIGNATURE).unlink()
    assert installed.install(folder, allow_unsigned=True).signer is None


@pytest.mark.parametrize("name", ["model.gguf", "card.md", "manifest.json", "signature.json"])
@pytest.mark.parametrize("harm", ["flipped", "missing", "cut", "link"])
def test_damaged_folders(old: Path, installed: Installed, name: str, harm: str, tmp_path: Path) -> None:
    """Refused, with nothing left behind."""
    path = old / name
    if harm == "flipped":
        flip(path, path.stat().st_size // 2)
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.replace(tmp_path / "away")
        if harm == "link":
            path.symlink_to(tmp_path / "away")
    with pytest.raises((PackError, NotFoundError), match=str(old)):
        installed.install(old)
    assert packs.leftovers() == []


@pytest.mark.parametrize("name", ["../escaped", "/etc/escaped", "..", "a/b", "a\\b"])
def test_paths_that_climb_out(old: Path, key: Path, installed: Installed, name: str, tmp_path: Path) -> None:
    """Signed or not, a manifest lists plain names."""
    files = {n: {"size": e.size, "sha256": e.sha256} for n, e in pack.read_manifest(old).files.items()}
    packs.change(old, files=files | {name: {"size": 1, "sha256": "0" * 64}})
    packs.sign(old, key)
    with pytest.raises(PackError, match="not a plain file name"):
        installed.install(old)
    assert packs.leftovers() == [] and not list(tmp_path.rglob("escaped"))


@pytest.mark.parametrize("key_name", ["format", "prompt_format"])
def test_a_newer_format(old: Path, key: Path, installed: Installed, key_name: str) -> None:
    """Said as such, though the signature is right."""
    packs.change(old, **{key_name: 9})
    with pytest.raises(PackError, match="Update edgegen"):
        installed.install(packs.sign(old, key))
    assert packs.leftovers() == []


def resigned(folder: Path, key: Path, model: bytes) -> Path:
    """A pack with another model, listed and signed as it is."""
    (folder / pack.MODEL).write_bytes(model)
    files = pack.describe(folder, json.loads((folder / pack.MANIFEST).read_bytes())["files"])
    packs.change(folder, files={name: {"size": e.size, "sha256": e.sha256} for name, e in files.items()})
    return packs.sign(folder, key)


def test_a_signed_model_that_lies_about_sizes(old: Path, key: Path, installed: Installed) -> None:
    """A right signature does not make a header right."""
    data = model_of(old)
    for lie in (data[:-4], data[:8] + b"\xff" * 8 + data[16:], data + bytes(64)):
        with pytest.raises(PackError, match="its header does not fit"):
            installed.install(resigned(old, key, lie))
    assert packs.leftovers() == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_model_that_only_llama_cpp_can_refuse(old: Path, key: Path) -> None:
    """Its header is right and its shapes are not: the trial in the child process finds out, at installing and activating."""
    data = model_of(old)
    installed = Installed()
    there = installed.install(old).folder
    assert installed.activate("old").folder == there
    wrong = data.replace(b"gpt2.block_count" + b"\4\0\0\0\2", b"gpt2.block_count" + b"\4\0\0\0\7")
    assert wrong != data
    packs.change(old, version="2")
    with pytest.raises(PackError, match=r"failed its trial in a child process: .*Do not use this pack\."):
        installed.install(resigned(old, key, wrong))
    assert installed.names() == ["old@1"] and not list(folders.data().rglob(durable.PART + "*"))


# --- kiosks go on


def test_a_damaged_active_pack_is_passed_over(old: Path, new: Path, installed: Installed) -> None:
    """The one before it is used, else the bundled one, and the reason is said."""
    for path in (old, new):
        installed.install(path)
        installed.activate(path.stem)
    said: list[str] = []
    flip(installed.folder_of("new@1") / pack.MODEL)
    assert chosen(None, said.append).manifest.name == "old"
    assert len(said) == 1 and "new@1 cannot be used" in said[0] and "SHA-256" in said[0]
    shutil.rmtree(installed.folder_of("old@1"))
    assert chosen(None, said.append).folder == loading.bundled()
    for damage in ("", "[]", '{"active": 3}', '{"active": "../x"}', "{" * 9000):
        (folders.data() / "active.json").write_text(damage, "utf-8")
        said.clear()
        assert chosen(None, said.append).folder == loading.bundled()
        assert len(said) == 1 and "The active pack is not known" in said[0]


def test_a_damaged_pack_is_not_activated(old: Path, new: Path, installed: Installed) -> None:
    """What is active stays active; so does it where the model fails its trial, or the way back is damaged."""
    for path in (old, new):
        installed.install(path)
    installed.activate("old")

    def refuse(model: Path) -> None:
        raise PackError(f"{model.name} does not load")

    with pytest.raises(PackError, match="does not load"):
        Installed(try_model=refuse).activate("new")
    flip(installed.folder_of("new@1") / pack.MODEL)
    with pytest.raises(PackError, match="SHA-256"):
        installed.activate("new")
    assert installed.state() == Active("old@1", None)


# --- killed at any moment


def killed(path: Path, step: int) -> subprocess.CompletedProcess[str]:
    """An installation in a process that kills itself at a step."""
    command = [sys.executable, "-m", "tests.fakes.killed", str(path), str(step)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_killed_at_any_step(old: Path, new: Path, installed: Installed) -> None:
    """There is the old pack or the new one; every pack that is there is whole; the next installation clears up."""
    installed.install(old)
    installed.activate("old")
    before = folders.data().rename(folders.data().with_name("before"))
    shutil.copytree(before, folders.data())
    done = killed(new, 0)
    assert done.returncode == 0, done.stderr
    steps = int(done.stdout)
    assert steps > 40
    states, lists = set(), set()
    every = 1 if os.environ.get("EDGEGEN_KILL_EVERYWHERE") else 5
    for step in range(1, steps + 1, every):
        shutil.rmtree(folders.data())
        shutil.copytree(before, folders.data())
        assert killed(new, step).returncode == -signal.SIGKILL
        states.add(chosen(None, pytest.fail).manifest.label)
        lists.add(tuple(installed.names()))
        for name in installed.names():
            assert pack.load(installed.folder_of(name)).manifest.label == name
        installed.install(new)
        assert installed.activate("new").folder == chosen(None, pytest.fail).folder
        assert not list(folders.data().rglob(durable.PART + "*"))
    assert states <= {"old@1", "new@1"} and "old@1" in states
    assert lists == {("old@1",), ("new@1", "old@1")}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_unpacking_killed(new: Path) -> None:
    """A pack file that is used where it lies leaves no half copy that is taken for a whole one."""
    half = folders.cache() / "unpacked" / (durable.PART + "x")
    half.mkdir(parents=True)
    (half / "model.gguf").write_bytes(b"GGUF")
    assert pack.load(new).manifest.name == "new" and not half.exists()


# --- a full disk


def test_no_space_is_said_first(new: Path, installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written where it cannot fit."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 1000))
    with pytest.raises(StorageError, match="0 MiB free, 1 MiB are needed"):
        installed.install(new)
    assert packs.leftovers() == []


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on files")
@pytest.mark.parametrize("command", [["pack", "install"], ["pack", "verify"], ["tasks"]])
def test_a_disk_that_fills_up(new: Path, command: list[str]) -> None:
    """The system refuses in the middle of the model: exit code 7, one line, nothing left. What writes nothing goes on."""
    limited = (
        "import resource, sys; from edgegen.cli import main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); sys.exit(main(sys.argv[1:]))"
    )
    arguments = command if command == ["tasks"] else [*command, str(new)]
    done = subprocess.run([sys.executable, "-c", limited, *arguments], capture_output=True, text=True, check=False)
    if command == ["pack", "install"]:
        assert done.returncode == 7 and "Free some space" in done.stderr and len(done.stderr.splitlines()) == 1
    else:
        assert done.returncode == 0, done.stderr
    assert packs.leftovers() == []
