"""Packs: build, verify, look at, install, switch, and the keys that sign them. See docs/packs.md."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from edgegen import pack
from edgegen.commands._shared import open_pack, say
from edgegen.errors import EdgegenError
from edgegen.pack import building, loading, signing, source, trust
from edgegen.pack.installed import BUNDLED, Installed

_WHICH = "a pack's folder or file, the name of an installed one, or `bundled`"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One sub-command an action."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, about: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, help=about, description=about)

    add_building(action("build", "write a pack with a Modelfile, further files and a signature, as a folder or one file"))
    for name, about in (("verify", "check signature, files and model header"), ("inspect", "print the manifest, then verify")):
        action(name, about).add_argument("path", nargs="?", type=Path, help=f"{_WHICH}; default: the active one")
    install = action("install", "verify a pack, try its model, and put it beside the others")
    install.add_argument("path", type=Path, help="a pack's folder or file")
    install.add_argument("--allow-unsigned", action="store_true", help="take a pack without a signature")
    install.add_argument("--activate", action="store_true", help="and use it from now on")
    action("list", "list the installed packs; * marks the active one")
    action("activate", "use a pack where none is named").add_argument("name", help=f"name@version, name, or {BUNDLED}")
    action("rollback", "use the pack that was active before")
    action("remove", "delete an installed pack that is not active").add_argument("name", help="name@version, or name")
    keygen = action("keygen", "make a pair of keys: NAME.key signs packs and stays with you, NAME.pub goes to the machines")
    keygen.add_argument("name", type=Path, help="path without ending")
    keys = action("trust", "trust a public key, or list the trusted ones")
    keys.add_argument("path", nargs="?", type=Path, metavar="FILE.pub", help="the key; without it, the trusted keys are listed")
    keys.add_argument("--name", help="what to call it; default: the file's name")
    keys.add_argument("--remove", metavar="KEY", help="name or id of a key that is trusted no longer")


def add_building(parser: argparse.ArgumentParser) -> None:
    """The options of `build`."""
    parser.add_argument("path", type=Path, help=_WHICH)
    parser.add_argument("--out", type=Path, required=True, help=f"a new folder, or a file whose name ends in {pack.SUFFIX}")
    parser.add_argument("--key", type=Path, help="private key that signs it; without one it is not signed")
    parser.add_argument(
        "--add", type=Path, action="append", default=[], metavar="FILE", help="put a file in, such as a model card"
    )
    parser.add_argument("--name", help="of the new pack; default: the old one's")
    parser.add_argument("--pack-version", help="default: the old one's")


def run(args: argparse.Namespace) -> int:
    """Exit code 0 where the action succeeded."""
    for line in _ACTIONS[args.action](args):
        sys.stdout.write(line + "\n")
    return 0


def _build(args: argparse.Namespace) -> Iterator[str]:
    yield str(built(args))


def built(args: argparse.Namespace) -> Path:
    """Build as the options say; gives where the pack is. Raises what `building.build` raises."""
    made, version = open_pack(args.path), args.pack_version
    return building.build(made, args.out, key=args.key, extra=args.add, name=args.name, version=version)


def _named(path: Path | None) -> Path:
    """Where the pack is that an action looks at: the active one by default, and no other in its place where it is damaged."""
    if path is None:
        installed = Installed()
        return installed.folder_of(installed.state().active)
    return path if path.exists() else open_pack(path).folder


def _verify(args: argparse.Namespace) -> Iterator[str]:
    path = _named(args.path)
    found = source.read(path)
    signer = loading.verify(found)
    yield f"{path}: {found.manifest.label} is whole, {f'signed by {signer}' if signer else 'not signed'}"


def _inspect(args: argparse.Namespace) -> Iterator[str]:
    path = _named(args.path)
    found = source.read(path)
    text = found.manifest_bytes.decode("utf-8").rstrip()
    yield "".join(c if c.isprintable() or c.isspace() else f"\\u{ord(c):04x}" for c in text)  # nothing that steers a terminal
    signer = loading.verify(found)
    say(f"{path} is whole, {f'signed by {signer}' if signer else 'not signed'}")


def _install(args: argparse.Namespace) -> Iterator[str]:
    installed = Installed()
    made = installed.install(args.path, allow_unsigned=args.allow_unsigned)
    yield f"{made.manifest.label} is installed, {f'signed by {made.signer}' if made.signer else 'not signed'}"
    if args.activate:
        installed.activate(made.manifest.label)
        yield _activated(installed)
    else:
        yield f"to use it: edgegen pack activate {made.manifest.label}"


def _list(args: argparse.Namespace) -> Iterator[str]:
    del args
    installed = Installed()
    state = installed.state()
    for name in (None, *installed.names()):
        mark = "*" if name == state.active else " "
        try:
            found = source.read(installed.folder_of(name))
            manifest = found.manifest
            signed = "comes with edgegen" if name is None else "signed" if found.signature else "not signed"
            about = f"{manifest.quantization:8} {','.join(manifest.languages):8} {manifest.total / 1e6:8.1f} MB  {signed}"
        except EdgegenError as error:
            about = f"cannot be used: {error}"
        yield f"{mark} {name or BUNDLED:24} {about}"


def _activate(args: argparse.Namespace) -> Iterator[str]:
    installed = Installed()
    installed.activate(args.name)
    yield _activated(installed)


def _rollback(args: argparse.Namespace) -> Iterator[str]:
    del args
    installed = Installed()
    installed.rollback()
    yield _activated(installed)


def _activated(installed: Installed) -> str:
    name = installed.state().active or BUNDLED
    return f"{name} is active; a server that runs without --pack takes it up in a second or two, one with --pack keeps its own"


def _remove(args: argparse.Namespace) -> Iterator[str]:
    yield f"{Installed().remove(args.name)} is removed"


def _keygen(args: argparse.Namespace) -> Iterator[str]:
    made = signing.generate(args.name)
    yield f"{args.name}{signing.PUBLIC}: key {made.id}"
    say(f"{args.name}{signing.PRIVATE} signs packs: keep it secret, and keep a copy")


def _trust(args: argparse.Namespace) -> Iterator[str]:
    folder = trust.trusted_folder()
    if args.remove:
        yield f"{trust.remove(folder, args.remove)} is trusted no longer"
    elif args.path:
        yield f"{trust.add(folder, args.path, args.name)} is trusted"
    else:
        yield from map(str, trust.keys(folder))


_ACTIONS: dict[str, Callable[[argparse.Namespace], Iterator[str]]] = {
    "build": _build, "verify": _verify, "inspect": _inspect, "install": _install, "list": _list, "activate": _activate,
    "rollback": _rollback, "remove": _remove, "keygen": _keygen, "trust": _trust,
}  # fmt: skip
