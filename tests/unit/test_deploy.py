"""The service files: what they start is what the command takes, and systemd understands its unit."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from edgegen.commands import serve
from edgegen.serving.launch import Policy

DEPLOY = Path(__file__).parents[2] / "deploy"
UNIT = (DEPLOY / "edgegen.service").read_text("utf-8")


def options(words: list[str]) -> argparse.Namespace:
    """The options of a `serve` command. Fails for an unknown one."""
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    return parser.parse_args(words)


def test_the_unit_starts_the_command_and_gives_it_time_to_drain() -> None:
    """The service manager waits longer than the server does, and is told when it is ready."""
    start = re.search(r"^ExecStart=\S+/edgegen serve (.*)$", UNIT, re.MULTILINE)
    stop = re.search(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)
    assert start and stop and options(shlex.split(start[1])).drain_s < int(stop[1])
    begin = re.search(r"^TimeoutStartSec=(\d+)$", UNIT, re.MULTILINE)
    assert begin and int(begin[1]) > Policy().start_s
    assert "\nType=notify\n" in UNIT and "\nWatchdogSec=" in UNIT


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """With a program that is here in place of edgegen."""
    path = tmp_path / "edgegen.service"
    path.write_text(re.sub(r"/opt/edgegen/bin/edgegen", "/bin/true", UNIT), "utf-8")
    command = ["systemd-analyze", "verify", "--man=no", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_image_starts_the_command() -> None:
    """Behind keys, as others reach it."""
    text = (DEPLOY / "Containerfile").read_text("utf-8")
    said = dict(re.findall(r"^(ENTRYPOINT|CMD) (\[.*\])$", text, re.MULTILINE))
    entry, more = json.loads(said["ENTRYPOINT"]), json.loads(said["CMD"])
    assert entry[:2] == ["edgegen", "serve"]
    made = options([*entry[2:], *more])
    assert made.host == "0.0.0.0" and made.keys is not None and not made.insecure  # noqa: S104 - a container's own


def test_the_docs_probe_where_the_services_look() -> None:
    """The answer of the probe is read by the unit and by the image: the same folders, the same user."""
    docs = (DEPLOY.parent / "docs" / "serve.md").read_text("utf-8")
    probes = re.findall(r"^    (.*edgegen doctor --probe)$", docs, re.MULTILINE)
    service, container = probes
    user, folders = re.search(r"^User=(\S+)$", UNIT, re.MULTILINE), re.search(r"^Environment=(.*)$", UNIT, re.MULTILINE)
    assert user and folders and f"-u {user[1]} " in service
    assert all(folder in service for folder in folders[1].split() if folder.startswith("EDGEGEN_"))
    image = (DEPLOY / "Containerfile").read_text("utf-8")
    for folder in re.findall(r"EDGEGEN_(?:HOME|CACHE)=(\S+)", image):
        assert f":{folder} " in container
