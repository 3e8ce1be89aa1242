"""What `bench/serve.py` stands on: answers read as they came, honest figures, memory of whole trees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from bench.served import figures, load, memory, visits
from bench.served.visits import Answer, Visit

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def _event(data: Any) -> bytes:
    body = b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(body), body)


def _piece(text: str, **more: Any) -> bytes:
    return _event({"choices": [{"text": text}], **more})


def test_a_stream_is_read_with_the_time_of_its_first_text() -> None:
    """Events that carry no text do not count as the first token; usage is the server's."""
    parts = [(1.0, HEAD), (2.0, _piece("")), (3.0, _piece("Fine")), (4.0, _piece(" grind", usage={"completion_tokens": 2}))]
    record = load.read(0, 0.5, [*parts, (5.0, _event(b"[DONE]") + b"0\r\n\r\n")], 0.0)
    assert (record.first, record.ended, record.text, record.tokens, record.error) == (3.0, 5.0, "Fine grind", 2, "")


@pytest.mark.parametrize("size", [1, 7, 64])
def test_events_may_be_cut_anywhere(size: int) -> None:
    """The bytes of a stream mean the same however they are cut."""
    whole = HEAD + _piece("Fine") + _piece(" grind") + _event(b"[DONE]") + b"0\r\n\r\n"
    parts = [(float(at), whole[at : at + size]) for at in range(0, len(whole), size)]
    record = load.read(0, 0.0, parts, 0.0)
    assert (record.text, record.tokens, record.error) == ("Fine grind", 2, "")


def test_what_went_wrong_is_told() -> None:
    """A refusal, a stream that broke off, no answer at all."""
    refused = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 2\r\n\r\n{}"
    assert "429" in load.read(0, 0.0, [(1.0, refused)], 0.0).error
    assert load.read(0, 0.0, [(1.0, HEAD), (2.0, _piece("Fine"))], 0.0).error == "the stream broke off"
    assert load.read(0, 0.0, [], 0.0).error == "no answer"


def _record(began: float, ended: float, **more: Any) -> dict[str, Any]:
    return {"at": 0, "began": began, "first": began + 0.1, "ended": ended, "tokens": 10, "error": "", **more}


def test_figures_are_rates_over_the_whole_run() -> None:
    """Requests that failed count in no rate, but are told."""
    found = figures.Figures.of([_record(0, 1), _record(1, 2), _record(0, 9, error="gone")], 100, 120, 3)
    assert (found.requests, found.tokens, found.total, found.failed) == (1.0, 10.0, 1.0, 1) and found.cpu == 1
    assert figures.middle([found, found]).failed == 2
    assert "| 1 | edgegen (1 failed) | 1.00 | 10 |" in figures.table({1: {"edgegen": [found]}})


def test_the_95th_percentile_is_a_value_that_was_seen() -> None:
    """The smallest that at least 95 % do not exceed."""
    assert figures.late([float(n) for n in range(1, 101)]) == 95
    assert figures.late([3.0]) == 3


def test_memory_counts_a_process_and_what_it_started() -> None:
    """The tree grows by the child, and the child's share is its own."""
    child = subprocess.Popen(
        [sys.executable, "-c", "print('up', flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        child.stdout.readline()
        assert child.pid in memory.tree(os.getpid())
        alone, both = memory.held(child.pid), memory.held(os.getpid())
        assert 0 < alone.pss <= alone.rss < both.rss
        assert alone.threads == 1
    finally:
        child.communicate(b"\n")


def _stream(*events: str, end: str = "0\r\n\r\n") -> Answer:
    return Answer(200, {"transfer-encoding": "chunked"}, ("".join(f"data: {event}\n\n" for event in events) + end).encode())


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (_stream('{"x"}', "[DONE]"), "answered"), (_stream('{"error": 1}'), "error in the stream"),
        (_stream("[DONE]", "[DONE]"), "FAULT: 2 ends"), (_stream('{"x"}'), "FAULT: 0 ends"),
        (_stream("[DONE]", end=""), "FAULT: cut off"), (Answer(429, {"retry-after": "1"}), "429"),
        (Answer(503), "FAULT: 503 without Retry-After"), (Answer(500, body=b"oh"), "FAULT: status 500"),
    ],
)  # fmt: skip
def test_a_visit_ends_once_or_is_a_fault(answer: Answer, outcome: str) -> None:
    """A stream has one end, or an error in its place; a refusal says when to come again."""
    assert visits.judged(Visit("/v1/completions (stream)", {}, ends="data: [DONE]"), answer).startswith(outcome)
