"""Lines between a front and the engine's process: nothing is lost on the way, and what is no line is no crash."""

from __future__ import annotations

import json
import socket
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgegen import errors
from edgegen.domain import Fact, Kind, Level, Request, Section
from edgegen.engine.options import SamplingOptions
from edgegen.errors import BusyError, EdgegenError, EngineError, PromptTooLongError
from edgegen.explain import ExplainOptions
from edgegen.serving import child, messages
from edgegen.serving.calls import Complete, Ended, Explain, Explained, Part, State, Token, Written
from edgegen.serving.child import Desk
from edgegen.serving.launch import Launch, Policy
from edgegen.serving.messages import Lines
from edgegen.serving.outbox import Outbox

CUT = "茶".encode()[:2].decode("utf-8", "surrogateescape")
FACTS = (
    Fact("name", "Kettle «1»\n", Kind.TEXT), Fact("price", Decimal("49.50"), Kind.MONEY, currency="CNY", level=Level.LOW),
    Fact("since", date(2026, 5, 1), Kind.DATE), Fact("tags", ("a", "b"), Kind.LIST),
)  # fmt: skip


def over(value: Any) -> Any:
    """A value on the other side."""
    line = messages.line(value)
    assert line.isascii() and line.count(b"\n") == 1
    return json.loads(line)


@pytest.mark.parametrize(
    "call",
    [
        Complete((Part("a\ud800茶"), Part("<|x|>", special=True), Part(ids=(1, 2))), fair=True),
        Complete(
            (), 3, SamplingOptions(temperature=0, seed=2**62), ("\n", "END"), 5, {7: -100.0, 8: 1.5}, 'root ::= "a"', True, True,
            True, 2.5, "batch",
        ),
    ],
)  # fmt: skip
def test_completions_go_over(call: Complete) -> None:
    """With everything that they ask for."""
    assert messages.complete_from_json(over(messages.complete_to_json(call))) == call


def test_explanations_go_over() -> None:
    """With every digit of their facts."""
    call = Explain(Request("list", "zh", (Section("item", FACTS),), ("a > b",)), ExplainOptions(2, 5, 0.5, False, 3.5), "batch")
    assert messages.explain_from_json(over(messages.explain_to_json(call))) == call


@pytest.mark.parametrize(
    "answer",
    [
        Written(1, "a", (Token(5, CUT), Token(6, "b", -0.5), Token(7, "c", -1.5, ((7, "c", -1.5), (8, CUT, float("-inf")))))),
        Ended(("stop", "length"), 3, 4, 1, ("x", None), {"total_s": 0.5}, "tiny@1"),
        Explained({"text": "茶", "claims": []}, ["茶"], "tiny@1", "<|v1|>"),
        [[1, CUT]],
        None,
    ],
)
def test_answers_come_back(answer: Any) -> None:
    """Cut characters too."""
    assert messages.answer_from_json(*over(messages.answer_to_json(answer))) == answer


def test_errors_come_back_as_what_they_are() -> None:
    """Each class of the tree; one that this side does not know is an EngineError."""
    for kind in (BusyError, PromptTooLongError, errors.OptionError, errors.SignatureError):
        found = messages.answer_from_json(*over(messages.answer_to_json(kind("why", "n", "x"))))
        assert (type(found), str(found), found.field, found.lacks) == (kind, "why", "n", "x")
    for name in ("NewError", "annotations", "Exception", "__doc__"):
        assert type(messages.error_from_json([name, "why", None, None])) is EngineError


def test_the_state_comes_back() -> None:
    """All of it."""
    pack, specials, controls = {"name": "tiny", "languages": ["en"]}, {"bos": "<s>"}, frozenset({"<s>"})
    state = State(True, "", pack, True, 256, 512, 300, 8, "{{ x }}", specials, True, controls, 1, 7, "CPU")
    assert messages.state_from_json(over(messages.state_to_json(state))) == state


def test_a_process_of_another_version_says_so() -> None:
    """As after an upgrade under a running server."""
    launch = Launch(pack="tiny", threads=3, faulted=(0, 2))
    line = over(messages.launch_to_json(launch))
    assert messages.launch_from_json(line) == launch
    with pytest.raises(errors.UsageError, match="Start the server again"):
        messages.launch_from_json({**line, "version": "0.0.0"})


@given(st.lists(st.binary(max_size=9).map(lambda b: b.replace(b"\n", b"")), max_size=6), st.integers(1, 7))
def test_lines_are_cut_wherever_the_pieces_end(lines: list[bytes], size: int) -> None:
    """Joined, they are what was sent."""
    data, cut = b"".join(one + b"\n" for one in lines), Lines()
    assert [line for at in range(0, len(data), size) for line in cut.feed(data[at : at + size])] == lines


def test_a_line_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody fills the memory of the other side."""
    monkeypatch.setattr(messages, "MOST_BYTES", 10)
    with pytest.raises(ValueError, match="longer than 10"):
        Lines().feed(b"x" * 11)


def test_what_goes_on_is_sent_together_and_what_is_urgent_at_once() -> None:
    """The first piece of a text alone; the others, within the gap, in one piece before the end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        outbox, cut = Outbox(theirs, gap_s=60), Lines()
        outbox.put(7, Written(0, "a", (Token(1, "a"),)))
        assert [json.loads(line) for line in cut.feed(ours.recv(9999))] == [[7, "written", [0, "a", [[1, "a"]]]]]
        for index, piece in ((0, "b"), (1, "x"), (0, "c")):
            outbox.put(7, Written(index, piece, (Token(2, piece),)), False)
        outbox.put(7, Ended(("stop",), 1, 3))
        found = cut.feed(ours.recv(9999))
        while not found or b"ended" not in found[-1]:
            found += cut.feed(ours.recv(9999))
    assert [json.loads(line)[2] for line in found[:-1]] == [[0, "bc", [[2, "b"], [2, "c"]]], [1, "x", [[2, "x"]]]]


def test_a_call_that_was_left_is_not_answered() -> None:
    """The first piece of a text is urgent, the next is not, its end is."""
    told: list[tuple[int, bool]] = []
    desk = Desk(Deaf(), lambda id_, answer, urgent: told.append((id_, urgent)))  # type: ignore[arg-type]
    for id_ in (1, 2):
        desk.take(messages.line({"id": id_, **messages.complete_to_json(Complete((Part("x"),)))}))
    desk.take(b'{"id": 2, "call": "leave"}')
    for answer in (Written(0, "a"), Written(0, "b"), Ended(("stop",), 1, 2), Written(0, "late")):
        for id_ in (1, 2):
            desk._tell(id_, answer)
    assert told == [(1, True), (1, False), (1, True)]


class Deaf:
    """A runner that notes what it is asked, and answers nothing."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.left = 0

    def complete(self, call: Complete, tell: object) -> Any:
        """Never ends."""
        return self.leave

    def leave(self) -> None:
        """Note it."""
        self.left += 1


@pytest.mark.parametrize(
    ("line", "id_", "words"),
    [
        (b"{", 0, "cannot be read"),
        (b"[]", 0, "cannot be read"),
        (b'{"id": 5}', 0, "cannot be read"),
        (b'{"id": 5, "call": "nope"}', 5, "no call 'nope'"),
        (b'{"id": 5, "call": "complete"}', 5, "KeyError"),
        (b'{"id": 5, "call": "complete", "prompt": 3}', 5, "TypeError"),
        (b'{"id": 5, "call": "explain", "request": [], "options": {}, "priority": "shopper"}', 5, "AttributeError"),
    ],
)
def test_what_is_no_call_is_answered_with_an_error(line: bytes, id_: int, words: str) -> None:
    """And the next call is taken."""
    told: list[tuple[int, Any]] = []
    desk = Desk(Deaf(), lambda id_, answer, urgent: told.append((id_, answer)))  # type: ignore[arg-type]
    desk.take(line)
    assert told[0][0] == id_ and isinstance(told[0][1], EdgegenError) and words in str(told[0][1]), told


def test_a_call_is_left_once_and_open_calls_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaving what is over does nothing; one call too many is refused."""
    monkeypatch.setattr("edgegen.serving.child._MOST_OPEN", 2)
    told, runner = list[tuple[int, Any]](), Deaf()
    desk = Desk(runner, lambda id_, answer, urgent: told.append((id_, answer)))  # type: ignore[arg-type]
    for id_ in (1, 2, 3):
        desk.take(messages.line({"id": id_, **messages.complete_to_json(Complete((Part("x"),)))}))
    assert [(id_, type(answer)) for id_, answer in told] == [(3, BusyError)]
    for _ in range(2):
        desk.take(b'{"id": 1, "call": "leave"}')
    assert runner.left == 1
    desk.take(b'{"id": 9, "call": "leave"}')


def test_a_fault_is_told_by_its_place_alone() -> None:
    """Its message may quote a prompt."""
    try:
        int("secret")
    except ValueError as error:
        told = child._fault(type(error), error.__traceback__)
    assert told.startswith("ValueError at test_messages.py:") and "secret" not in told


def test_pauses_double_up_to_a_bound() -> None:
    """Of the policy."""
    policy = Policy(first_pause_s=0.5, most_pause_s=3)
    assert [policy.pause_s(deaths) for deaths in (1, 2, 3, 4, 999)] == [0.5, 1, 2, 3, 3]
