"""The shim for llama-server's tests, as far as it is pure: flags, bodies, answers, and a template put into a model's file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader

from tests.conformance import flags, native, reasons, start, templates
from tests.conformance.native import Gathered, UnsupportedError
from tests.fakes.tiny_gguf import write_tiny_gguf

FLAGS = flags.parsed(
    ["--temp", "0.5", "--seed", "42", "--ctx-size", "512", "--parallel", "2", "--n-predict", "64", "--unknown", "x"]
)


def test_flags_become_defaults_of_requests() -> None:
    """What a request says itself goes first."""
    assert native.defaults(FLAGS)["temperature"] == 0.5
    asked = native.completion({"n_predict": 8, "seed": 7, "n_probs": 3}, [1, 2], FLAGS)
    assert (asked["max_tokens"], asked["seed"], asked["temperature"], asked["logprobs"], asked["prompt"]) == (
        8,
        7,
        0.5,
        3,
        [1, 2],
    )


@pytest.mark.parametrize(("body", "tokens"), [({}, 64), ({"n_predict": 80}, 80), ({"max_tokens": 3}, 3), ({"n_predict": -1}, 64)])
def test_a_request_says_how_much_is_written(body: dict[str, Any], tokens: int) -> None:
    """Else the flag does."""
    assert native.budget(body, FLAGS) == tokens


def test_what_edgegen_does_not_have_is_refused() -> None:
    """By name."""
    with pytest.raises(UnsupportedError, match="post_sampling_probs"):
        native.completion({"post_sampling_probs": True}, "a", FLAGS)


def test_schemas_are_put_where_our_api_has_them() -> None:
    """Three ways of llama-server's, one of ours."""
    schema = {"const": "42"}
    for more in (
        {"json_schema": schema},
        {"response_format": {"type": "json_object", "schema": schema}},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}},
    ):
        form = native.chat({"messages": [], "id_slot": 0, **more}, FLAGS)["response_format"]
        assert (form["type"], form["json_schema"]["schema"]) == ("json_schema", schema)


def test_a_chat_that_ends_with_the_assistant_goes_on() -> None:
    """Unless the request says otherwise."""
    chat = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    assert native.continued(chat)["continue_final_message"] is True
    assert native.continued({**chat, "add_generation_prompt": True}) == {**chat, "add_generation_prompt": True}


def test_our_events_are_put_together() -> None:
    """Text, tokens and probabilities; counts are those of our usage, and only wanted fields are told."""
    gathered = Gathered()
    told = {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"a": -0.5, "b": -1.0}]}
    parts = gathered.add(
        {"choices": [{"text": "a", "token_ids": [5], "logprobs": told, "finish_reason": None}]}, {"a": 5, "b": 6}
    )
    assert [one["id"] for one in parts[0]["completion_probabilities"][0]["top_logprobs"]] == [5, 6]
    usage = {"prompt_tokens": 4, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 3}}
    assert gathered.add({"choices": [{"text": "", "token_ids": [], "finish_reason": "length"}], "usage": usage}, {}) == []
    whole = gathered.whole({"return_tokens": True}, {"n_predict": 1}, "<s> x", streamed=False)
    assert (whole["content"], whole["tokens"], whole["timings"]["prompt_n"], whole["timings"]["cache_n"]) == ("a", [5], 1, 3)
    assert whole["timings"]["predicted_per_second"] == 0
    some = gathered.whole({"response_fields": ["content", "generation_settings/n_predict"]}, {"n_predict": 1}, "", streamed=False)
    assert some == {"content": "a", "generation_settings/n_predict": 1}


def test_metrics_have_llama_servers_names() -> None:
    """Each with its kind and help; figures of ours are found by name."""
    found = native.ours('# HELP x\nedgegen_tokens_total{kind="prompt"} 3.0\nedgegen_engine_steps_total 7.0\n')
    assert native.figure(found, "steps_total") == 7 and found['edgegen_tokens_total{kind="prompt"}'] == 3
    text = native.metrics({"n_decode_total": 7})
    assert "llamacpp:n_decode_total 7\n" in text and text.count("# HELP") == text.count("# TYPE") == len(native.METRICS)


def test_the_control_gets_the_local_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the hub would have given."""
    monkeypatch.setenv(flags.MODEL, "/m.gguf")
    asked = ["--hf-repo", "a/b", "--port", "1", "--hf-file", "c", "--slots"]
    assert flags.substituted(asked) == ["--port", "1", "--slots", "--model", "/m.gguf", "--threads", flags.THREADS]


def test_a_model_gets_a_template(tmp_path: Path) -> None:
    """All else in the file stays as it was."""
    model, out = write_tiny_gguf(tmp_path / "a.gguf"), tmp_path / "b.gguf"
    wanted = templates.wanted(FLAGS, brought=False)
    assert wanted == templates.NAMED["chatml"] and templates.wanted(FLAGS, brought=True) is None
    templates.with_template(model, wanted, out)
    before, after = GGUFReader(model), GGUFReader(out)
    assert after.fields["tokenizer.chat_template"].contents() == wanted and templates.brings(out)
    kept = [name for name in before.fields if not name.startswith("GGUF.") and name != "tokenizer.chat_template"]
    assert all(after.fields[name].contents() == before.fields[name].contents() for name in kept)
    assert [bytes(t.data.tobytes()) for t in after.tensors] == [bytes(t.data.tobytes()) for t in before.tensors]
    assert start.vocabulary(out)[0] and reasons.of("unit/test_basic.py::test_no_ui") and not reasons.of("unit/test_x.py::y")
