"""The packs of this machine: installed ones, the active one, and which pack is used where none is named.

    <data folder>/packs/<name>@<version>/   an installed pack, as it was verified; never changed afterwards
    <data folder>/active.json               the active pack and the one before it; null is the bundled pack
    <data folder>/trust/<label>.pub         see `edgegen.pack.trust`

Whatever is killed at whatever moment: a pack is there whole or not at all, and `active.json` is the old or the new one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edgegen import durable, folders, hardware
from edgegen.errors import EdgegenError, NotFoundError, PackError, SignatureError, UnavailableError, UsageError
from edgegen.pack import loading, source, trust
from edgegen.pack.loading import Pack
from edgegen.pack.manifest import MODEL, SIGNATURE, read_json
from edgegen.pack.source import Source

BUNDLED = "bundled"
"""How the pack that comes with edgegen is called among the installed ones."""
_LIST = "`edgegen pack list` shows what is installed."

Say = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Active:
    """The active pack and the one before it, by name@version; None is the bundled pack."""

    active: str | None = None
    previous: str | None = None


def require_loads(model: Path) -> None:
    """Raise PackError unless llama.cpp loads the model and computes with it, tried in a child process, which may crash.

    On one thread, which is the last to suffer where the machine is busy; UnavailableError where that was too much.
    """
    trial = hardware.trial(model, hardware.Setting())
    if trial.busy:
        raise UnavailableError(trial.busy)
    if trial.seconds is None:
        why = trial.error.replace(str(model), model.name).rstrip(".")
        raise PackError(f"The model failed its trial in a child process: {why}. Do not use this pack.")


class Installed:
    """The packs in the user's data folder. Methods that write raise StorageError where the system refuses."""

    def __init__(self, try_model: Callable[[Path], None] = require_loads) -> None:
        """`try_model` raises PackError for a model that does not load, UnavailableError where that cannot be told now."""
        self.folder = folders.data()
        self.packs = self.folder / "packs"
        self.state_file = self.folder / "active.json"
        """Changes, as a whole, with the active pack."""
        self._try_model = try_model

    def names(self) -> list[str]:
        """Every installed pack, as name@version."""
        found = self.packs.iterdir() if self.packs.is_dir() else ()
        return sorted(path.name for path in found if path.is_dir() and not path.name.startswith(durable.PART))

    def find(self, wanted: str) -> str:
        """The name@version of an installed pack given by that or by a name that only one has. Raises NotFoundError."""
        fits = [name for name in self.names() if wanted in (name, name.rpartition("@")[0])]
        if len(fits) == 1:
            return fits[0]
        if fits:
            raise UsageError(f"{wanted} is not one pack but {len(fits)}: {', '.join(fits)}. Name the version too.")
        raise NotFoundError(f"No installed pack is called {wanted}. {_LIST}")

    def folder_of(self, name: str | None) -> Path:
        """Where an installed pack is; the bundled one for None."""
        return loading.bundled() if name is None else self.packs / name

    def install(self, path: Path, *, allow_unsigned: bool = False) -> Pack:
        """Verify a pack, try its model and put it beside the others; nothing is activated.

        Raises NotFoundError, PackError, SignatureError, StorageError, UnavailableError; then everything is as it was.
        """
        found = source.read(path)
        signer = trust.known_signer(found)
        if signer is None and not allow_unsigned:
            raise SignatureError(
                f"{path} has no signature, so nobody says whose it is. Get a signed one, or give --allow-unsigned."
            )
        with self._writing():
            target = self.packs / found.manifest.label
            if not self._is_there(target, found):
                self._add(found, target)
        return Pack(target, found.manifest, signer)

    def _is_there(self, target: Path, found: Source) -> bool:
        """Whether the same pack is installed and whole. Raises PackError for another one of this name and version."""
        try:
            loading.load(target)
        except EdgegenError:
            return False
        there = source.read(target)
        if there.manifest_bytes != found.manifest_bytes:
            raise PackError(f"Another pack is installed as {target.name}. Give the new one another version, or remove the old.")
        found.verify()
        if (signature := found.signature) is not None and signature != there.signature:
            durable.replace(target / SIGNATURE, lambda file: file.write(signature))
        return True

    def _add(self, found: Source, target: Path) -> None:
        loading.check(found)
        durable.need(self.packs, found.manifest.total)
        with durable.staging(self.packs) as part, durable.staging(self.packs) as old:
            found.copy(part)
            self._try_model(part / MODEL)
            if target.exists():  # damaged; a kill between the two moves leaves none, and the pack before it is used
                target.rename(old / target.name)
            durable.move(part, target)

    def activate(self, wanted: str) -> Pack:
        """Use a pack from now on; the one that was active is remembered. Raises NotFoundError, PackError, StorageError."""
        name = None if wanted == BUNDLED else self.find(wanted)
        with self._writing():
            pack, before = self._usable(name), self.state()
            if before.active != name:
                self._keep(Active(name, before.active))
        return pack

    def rollback(self) -> Pack:
        """Use the pack before the active one; a second time goes back again. Raises UsageError where there is none."""
        with self._writing():
            before = self.state()
            if before.active == before.previous:
                raise UsageError(f"No pack was active before this one, so there is nothing to go back to. {_LIST}")
            pack = self._usable(before.previous)
            self._keep(Active(before.previous, before.active))
        return pack

    def _usable(self, name: str | None) -> Pack:
        pack = loading.load(self.folder_of(name))
        self._try_model(pack.model)
        return pack

    def remove(self, wanted: str) -> str:
        """Delete an installed pack that is not active. Raises NotFoundError, UsageError."""
        with self._writing():
            name, state = self.find(wanted), self.state()
            if name == state.active:
                raise UsageError(f"{name} is the active pack. Activate another first.")
            if name == state.previous:
                self._keep(Active(state.active, None))
            with durable.staging(self.packs) as old:
                (self.packs / name).rename(old / name)
        return name

    def state(self) -> Active:
        """Which pack is active. Raises PackError where `active.json` is damaged."""
        if not self.state_file.is_file():
            return Active()
        try:
            raw = read_json(self.state_file.read_bytes(), self.state_file)
        except PackError:
            raw = {"active": False}
        values = raw.get("active"), raw.get("previous")
        if not all(value is None or (isinstance(value, str) and Path(value).name == value) for value in values):
            raise PackError(f"{self.state_file} is damaged. Delete it, then activate a pack.")
        return Active(*values)

    def current(self, say: Say) -> Pack:
        """The active pack; where it cannot be used, the one before it, else the bundled one, and `say` is told why.

        A kiosk with a damaged pack goes on explaining. Raises PackError where the bundled one cannot be used either.
        """
        try:
            state = self.state()
        except (PackError, OSError) as error:
            say(f"The active pack is not known: {error} The bundled pack is used.")
            state = Active()
        names = (state.active, state.previous) if state.active else ()
        for name in filter(None, dict.fromkeys(names)):
            try:
                return loading.load(self.folder_of(name))
            except EdgegenError as error:
                say(f"The installed pack {name} cannot be used, install it again: {error} The one before it is used.")
        return loading.load(loading.bundled())

    def _keep(self, state: Active) -> None:
        text = json.dumps({"active": state.active, "previous": state.previous}, indent=2) + "\n"
        durable.replace(self.state_file, lambda file: file.write(text.encode("ascii")))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One process writes at a time; what a killed one left unfinished goes."""
        with durable.storing(self.folder):
            self.packs.mkdir(parents=True, exist_ok=True)
            with durable.locked(self.packs):
                durable.sweep(self.packs)
                durable.sweep(self.folder)
                yield


def chosen(wanted: Path | None, say: Say, installed: Installed | None = None) -> Pack:
    """The pack that `--pack` means: a folder or file, the name of an installed one or `bundled`; by default the active one.

    What is there as a path is the path. Raises NotFoundError, PackError, SignatureError, StorageError, UsageError.
    """
    installed = installed or Installed()
    if wanted is None:
        return installed.current(say)
    if not wanted.exists() and wanted.name == str(wanted):
        if str(wanted) == BUNDLED:
            return loading.load(loading.bundled())
        with suppress(NotFoundError):
            return loading.load(installed.folder_of(installed.find(str(wanted))))
    return loading.load(wanted)
