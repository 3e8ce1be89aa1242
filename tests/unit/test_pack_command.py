"""`edgegen pack` at its boundary: each action, its exit code and what it says. No model is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgegen import cli, hardware, pack
from edgegen.hardware import Setting, Trial
from edgegen.pack import loading
from tests.fakes import packs


@pytest.fixture(autouse=True)
def _no_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model passes its trial."""
    monkeypatch.setattr(hardware, "trial", lambda model, setting: Trial(setting, 0.1))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An unsigned pack."""
    return packs.make(tmp_path / "made")


def edgegen(*arguments: object) -> int:
    """Run `edgegen pack`."""
    return cli.main(["pack", *map(str, arguments)])


def test_from_key_to_kiosk(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole way that docs/packs.md describes."""
    file, key = tmp_path / "own.egpack", tmp_path / "acme"
    assert edgegen("keygen", key) == 0
    assert edgegen("build", folder, "--out", file, "--key", f"{key}.key", "--name", "own", "--pack-version", "2") == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[1] == str(file) and "keep it secret" in err
    assert edgegen("verify", file) == 5
    assert "does not trust" in capsys.readouterr().err
    assert edgegen("trust", f"{key}.pub", "--name", "shop") == 0
    assert edgegen("verify", file) == 0
    assert edgegen("install", file) == edgegen("activate", "own") == 0
    capsys.readouterr()
    assert edgegen("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["bundled", "*"] and lines[1].startswith("* own@2 ")
    assert edgegen("verify") == 0
    assert "own@2 is whole, signed by shop (" in capsys.readouterr().out
    assert edgegen("rollback") == 0
    said = capsys.readouterr().out
    assert said.startswith("bundled is active; a server that runs without --pack takes it up in a second or two")
    assert edgegen("remove", "own") == 0
    assert edgegen("trust") == 0
    assert "own@2 is removed\nshop (" in capsys.readouterr().out
    assert edgegen("trust", "--remove", "shop") == 0
    assert edgegen("trust") == 0
    assert "trusted no longer" in capsys.readouterr().out


def test_install_and_activate_in_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a signature the option is needed."""
    assert edgegen("install", folder, "--activate") == 5
    assert "--allow-unsigned" in capsys.readouterr().err
    assert edgegen("install", folder, "--activate", "--allow-unsigned") == 0
    assert "tiny@1 is installed, not signed\ntiny@1 is active" in capsys.readouterr().out


def test_inspect_shows_what_it_can(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The manifest of a pack by a stranger, and of a damaged one, is printed; the exit code says what is wrong."""
    packs.sign(folder, packs.untrusted(tmp_path))
    assert edgegen("inspect", folder) == 5
    out, err = capsys.readouterr()
    assert json.loads(out)["name"] == "tiny" and "does not trust" in err
    (folder / pack.SIGNATURE).unlink()
    assert edgegen("inspect", folder) == 0
    out, err = capsys.readouterr()
    assert out == (folder / pack.MANIFEST).read_text("utf-8") and "is whole, not signed" in err


def test_a_damaged_pack_is_listed_as_such(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The others are listed all the same."""
    assert edgegen("install", folder, "--allow-unsigned") == 0
    from edgegen.pack.installed import Installed

    assert edgegen("activate", "tiny") == edgegen("verify") == 0
    (Installed().folder_of("tiny@1") / pack.MANIFEST).write_text("{", "utf-8")
    capsys.readouterr()
    for action in ("verify", "inspect"):
        assert edgegen(action) == 5  # the active one is meant, whatever is used in its place
        assert "manifest.json cannot be read" in capsys.readouterr().err
    assert edgegen("list") == 0
    assert "tiny@1                   cannot be used: " in capsys.readouterr().out


def test_record_leaves_signed_and_installed_packs_alone(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`evaluate --record` refuses before it scores anything."""
    assert edgegen("install", folder, "--activate", "--allow-unsigned") == 0
    packs.sign(folder, packs.trusted(tmp_path))
    for option in ([], ["--pack", str(folder)]):
        assert cli.main(["evaluate", "--corpus", str(tmp_path), "--record", *option]) == 2
        assert "signed or installed" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "code"), [
    (["install", "nowhere"], 4), (["activate", "nope"], 4), (["remove", "nope"], 4), (["rollback"], 2),
    (["trust", "none.pub"], 4), (["trust", "--remove", "nobody"], 4),
    (["verify", "nope"], 4), (["build", "bundled", "--out", "x", "--key", "none"], 4),
])  # fmt: skip
def test_errors_are_one_line(
    arguments: list[str], code: int, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has its code and leaves nothing."""
    monkeypatch.chdir(tmp_path)
    assert edgegen(*arguments) == code
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [] and packs.leftovers() == []


def test_a_model_is_tried_with_the_safest_setting(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread, no repacked buffers, no GPU; what the trial says is what the user reads."""
    asked: list[Setting] = []

    def trial(model: Path, setting: Setting) -> Trial:
        asked.append(setting)
        return Trial(setting, None, "crashed with SIGSEGV")

    monkeypatch.setattr(hardware, "trial", trial)
    assert edgegen("install", folder, "--allow-unsigned") == 5
    assert asked == [Setting()] and packs.leftovers() == []


def test_a_busy_machine_is_no_fault_of_the_pack(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The pack is not installed, nothing is said against it, and the exit code is that of what may work later."""
    monkeypatch.setattr(
        hardware, "trial", lambda _, setting: Trial(setting, None, "not done after 120 s", "The machine is busy.")
    )
    assert edgegen("install", folder, "--allow-unsigned") == 6 and packs.leftovers() == []
    said = capsys.readouterr().err
    assert "machine is busy" in said and "not use" not in said


def test_the_bundled_pack_needs_no_signature(capsys: pytest.CaptureFixture[str]) -> None:
    """It comes with edgegen itself."""
    assert edgegen("verify", "bundled") == 0
    assert f"{loading.bundled()}: bundled@" in capsys.readouterr().out
