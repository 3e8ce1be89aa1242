"""Keys, signatures and trust: only what a trusted key signed, byte for byte."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgegen import folders, pack
from edgegen.errors import DataError, NotFoundError, PackError, SignatureError, UsageError
from edgegen.pack import signing, source, trust
from tests.fakes import packs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An unsigned pack."""
    return packs.make(tmp_path / "pack")


def test_keys_are_pem_and_private(tmp_path: Path) -> None:
    """The private key is its owner's only; an existing one is never overwritten."""
    made = signing.generate(tmp_path / "keys" / "acme")
    private = tmp_path / "keys" / "acme.key"
    assert private.stat().st_mode & 0o777 == 0o600
    assert private.read_text().startswith("-----BEGIN PRIVATE KEY-----")
    assert signing.read_public(tmp_path / "keys" / "acme.pub") == made
    assert len(made.id) == 16 and str(made) == f"acme ({made.id})"
    private.with_suffix(".pub").unlink()
    with pytest.raises(UsageError, match="a key that is overwritten is lost"):
        signing.generate(tmp_path / "keys" / "acme")


def test_a_signature_covers_the_exact_bytes(folder: Path, tmp_path: Path) -> None:
    """A manifest that means the same in other bytes is not the signed one."""
    packs.sign(folder, packs.trusted(tmp_path))
    signer = trust.known_signer(source.read(folder))
    assert signer is not None and signer.label == "acme"
    path = folder / pack.MANIFEST
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(SignatureError, match=r"the signature is not acme \(.*'s for this manifest"):
        pack.load(folder)


def test_a_signature_of_another_pack(folder: Path, tmp_path: Path) -> None:
    """It cannot be moved."""
    key = packs.trusted(tmp_path)
    other = packs.sign(packs.make(tmp_path / "other", version="2"), key)
    (folder / pack.SIGNATURE).write_bytes((other / pack.SIGNATURE).read_bytes())
    with pytest.raises(SignatureError, match="one of the two was changed"):
        pack.load(folder)


def test_a_key_id_is_not_enough(folder: Path, tmp_path: Path) -> None:
    """A stranger who names a trusted key is found out."""
    trusted, stranger = packs.trusted(tmp_path), packs.untrusted(tmp_path)
    packs.sign(folder, stranger)
    path = folder / pack.SIGNATURE
    with pytest.raises(SignatureError, match=f"is signed by {packs.public(stranger).id}, whom this machine does not trust"):
        pack.load(folder)
    path.write_text(path.read_text().replace(packs.public(stranger).id, packs.public(trusted).id))
    with pytest.raises(SignatureError, match="do not use this pack|Do not use this pack"):
        pack.load(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "", lambda text: "{}", lambda text: text.upper(), lambda text: text + " ",
        lambda text: text.replace(" ", ""), lambda text: text[:-10],
        lambda text: text.replace("ed25519", "none"), lambda text: text[:-10] + '"\n}\n', lambda text: "[" * 2000,
        lambda text: text.replace('"key": "', '"key": "x'), lambda text: text.replace('"key": "', '"key": "\\u001b[2J'),
    ],
)  # fmt: skip
def test_a_signature_has_one_way_to_be_written(folder: Path, tmp_path: Path, change: object) -> None:
    """Whatever else is in the file is refused, also where it would mean the same."""
    packs.sign(folder, packs.trusted(tmp_path))
    path = folder / pack.SIGNATURE
    path.write_text(change(path.read_text()))  # type: ignore[operator]
    with pytest.raises(PackError, match=r"signature\.json|does not trust"):
        pack.load(folder)


def test_trust_is_given_and_taken_back(folder: Path, tmp_path: Path) -> None:
    """A pack of a key that was removed is refused again."""
    store, key = folders.data() / "trust", packs.untrusted(tmp_path, "acme")
    packs.sign(folder, key)
    added = trust.add(store, key.with_suffix(".pub"))
    assert trust.add(store, key.with_suffix(".pub"), "again") == added
    assert trust.keys(store) == (added,) and pack.load(folder).signer == added
    assert trust.remove(store, added.id) == added
    with pytest.raises(SignatureError):
        pack.load(folder)
    with pytest.raises(NotFoundError, match="No trusted key is called acme"):
        trust.remove(store, "acme")


def test_names_of_keys(tmp_path: Path) -> None:
    """One name, one key; a name is a plain file name."""
    store = folders.data() / "trust"
    trust.add(store, packs.untrusted(tmp_path, "one").with_suffix(".pub"))
    two = packs.untrusted(tmp_path, "two").with_suffix(".pub")
    for label, why in (("ONE", "Another key is called one"), ("../x", "cannot name a key"), ("", "cannot name")):
        with pytest.raises(UsageError, match=why) if label else pytest.MonkeyPatch.context():
            trust.add(store, two, label)
    assert sorted(path.name for path in store.iterdir()) == ["one.pub", "two.pub"]


def test_what_is_no_key(tmp_path: Path, folder: Path) -> None:
    """Garbage, a private key in place of a public one and the reverse, a missing file; a damaged store is not passed over."""
    key, garbage = packs.untrusted(tmp_path), tmp_path / "garbage.pub"
    garbage.write_bytes(b"\0" * 9000)
    for path in (garbage, key):
        with pytest.raises(DataError, match="is not a public Ed25519 key"):
            signing.read_public(path)
    with pytest.raises(DataError, match="is not a private Ed25519 key"):
        signing.sign(b"", key.with_suffix(".pub"))
    with pytest.raises(NotFoundError, match="There is no key"):
        signing.read_public(tmp_path / "none.pub")
    packs.sign(folder, packs.trusted(tmp_path))
    (folders.data() / "trust" / "broken.pub").write_bytes(b"?")
    with pytest.raises(SignatureError, match="The trust store is damaged"):
        pack.load(folder)


def test_an_unsigned_pack_needs_no_cryptography(folder: Path) -> None:
    """Neither does starting: the package is imported where a key is used."""
    code = (
        f"import sys; from pathlib import Path; from edgegen.pack.installed import chosen; chosen(Path({str(folder)!r}), print); "
        "sys.exit('cryptography' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
