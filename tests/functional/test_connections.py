"""A real server process: clients that leave, do not read, send slowly or are too many; and what stopping does to open answers."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import httpx
import pytest

WAIT_S = 20


@dataclass
class Served:
    """The process, its port, and what it says."""

    process: subprocess.Popen[str]
    port: int
    says: IO[str]

    def connect(self, **buffers: int) -> socket.socket:
        """A connection; `receive` bytes of buffer."""
        found = socket.socket()
        found.settimeout(WAIT_S)
        if "receive" in buffers:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers["receive"])
        try:
            found.connect(("127.0.0.1", self.port))
        except OSError:
            found.close()
            raise
        return found

    def ask(self, prompt: str, **buffers: int) -> socket.socket:
        """A connection on which a streamed completion was asked for."""
        body = json.dumps({"prompt": prompt, "stream": True}).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        found = self.connect(**buffers)
        found.sendall(head + body)
        return found


@contextmanager
def served(drain_s: float, *limits: str) -> Iterator[Served]:
    """A running server with these limits."""
    command = [sys.executable, "-m", "tests.fakes.served", str(drain_s), *limits]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Served(process, int(process.stdout.readline()), process.stdout)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    """A server with short patience."""
    with served(5, "receive_s=0.3", "stalled_s=1", "idle_s=0.3", "connections=6", "header_bytes=2000") as found:
        yield found


def rest(link: socket.socket) -> bytes:
    """All that still comes, until the server closes; b"" as well where it cuts."""
    found = b""
    try:
        while data := link.recv(1 << 16):
            found += data
    except ConnectionError:
        pass
    return found


def test_a_client_that_leaves_ends_its_text(server: Served) -> None:
    """While it is written."""
    with server.ask("1000 10 0.01") as link:
        assert b"200 OK" in link.recv(1000)
    assert server.says.readline() == "left\n"


def test_a_client_that_does_not_read_is_cut(server: Served) -> None:
    """As soon as its answer cannot be sent for a while; the text ends, and so does the connection."""
    with server.ask("10000 60000 0", receive=4096):
        assert server.says.readline() == "left\n"


def test_a_client_that_reads_slowly_gets_all(server: Served) -> None:
    """Slow is not stalled: the answer waits for it."""
    with server.ask("40 60000 0.001", receive=4096) as link:
        tail = b""
        while b"[DONE]" not in tail:
            tail = tail[-20:] + link.recv(1 << 14)
    assert server.says.readline() == "whole\n"


def test_requests_that_come_too_slowly(server: Served) -> None:
    """A body that stops gets 408, a head that stops is cut, and so is a connection on which nothing comes."""
    head = b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n"
    for sent, answer in ((head + b'{"pro', b"HTTP/1.1 408"), (b"GET /hea", b""), (b"", b"")):
        with server.connect() as link:
            link.sendall(sent)
            assert rest(link)[:12] == answer


def test_a_head_that_is_too_long_is_refused(server: Served) -> None:
    """Before any route sees it, whether it comes bit by bit or in one go; counted, and in the shape of all errors."""
    for end, size in ((b"", 4000), (b"\r\n\r\n", 2000), (b"\r\n\r\n", 40_000)):
        with server.connect() as link:
            link.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nX: " + b"x" * size + end)
            head, _, body = rest(link).partition(b"\r\n\r\n")
        assert head[:12] == b"HTTP/1.1 431" and json.loads(body)["error"]["code"] == "head", (end, size)
    assert refused(server, 431) == 3


def test_a_head_that_is_no_http_is_refused(server: Served) -> None:
    """In the shape of all errors."""
    with server.connect() as link:
        link.sendall(b"\x16\x03\x01garbage\r\n\r\n")
        head, _, body = rest(link).partition(b"\r\n\r\n")
    assert head[:12] == b"HTTP/1.1 400" and b"application/json" in head
    assert json.loads(body)["error"]["type"] == "invalid_request_error" and refused(server, 400) == 1


def refused(server: Served, status: int) -> float:
    """How many requests were refused with a status."""
    text = httpx.get(f"http://127.0.0.1:{server.port}/metrics").text
    found = re.search(rf'^edgegen_rejections_total{{status="{status}"}} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_idle_connections_are_closed(server: Served) -> None:
    """After the time that they may be kept for another request."""
    with server.connect() as link:
        link.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert b'"status":"ok"' in rest(link)


def test_too_many_connections_are_refused(server: Served) -> None:
    """With 503 and when to come again; the others go on."""
    links = [server.connect() for _ in range(8)]
    found = [rest(link) for link in links]
    full = [answer for answer in found if answer.startswith(b"HTTP/1.1 503")]
    assert full and found[0] == b"" and b"\r\nRetry-After: 1\r\n" in full[0]
    assert json.loads(full[0].partition(b"\r\n\r\n")[2])["error"]["code"] == "busy"
    for link in links:
        link.close()
    assert httpx.get(f"http://127.0.0.1:{server.port}/health").status_code == 200
    assert refused(server, 503) == len(full)


def test_stopping_lets_open_answers_end() -> None:
    """SIGTERM: no more connections, the open stream to its end, then success."""
    with served(10) as found, found.ask("30 10 0.03") as link:
        assert b"200 OK" in link.recv(100)
        found.process.send_signal(signal.SIGTERM)
        assert rest(link).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        assert found.says.readline() == "whole\n" and found.process.wait(WAIT_S) == 0
        with pytest.raises(OSError, match="refused"):
            found.connect()


def test_stopping_waits_no_longer_than_said() -> None:
    """What is open then is cut off."""
    with served(0.2) as found, found.ask("100000 10 0.03") as link:
        assert b"200 OK" in link.recv(100)
        found.process.send_signal(signal.SIGTERM)
        assert b"[DONE]" not in rest(link)
        assert found.says.readline() == "left\n" and found.process.wait(WAIT_S) == 0
