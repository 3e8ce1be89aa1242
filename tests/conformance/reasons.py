"""Why a test of llama-server's cannot pass on edgegen. What fails and is not here is a fault of ours."""

from __future__ import annotations

import re

_REASONS: tuple[tuple[str, str], ...] = (
    (
        r"completion\.py::test_completion(_stream)?\[|test_completion(_stream)?_with_openai_library$|test_chat_completion(_stream)?\["
        r"|test_chat_completion_with_openai_library",
        "the text is what llama.cpp's random numbers draw with this seed; edgegen draws with its own",
    ),
    (r"test_load_split_model|library_stops|embedding_prompt", "asks for another model of the hub (split, Phi-3.5, BERT)"),
    (r"test_local_media_file|test_json_prompt_mtm", "images: edgegen reads text alone"),
    (r"post_sampling|post_backend", "post_sampling_probs: edgegen's log-probabilities are the model's, before any sampling"),
    (r"prompt_progress|return_progress", "return_progress: edgegen tells nothing while it reads a prompt"),
    (r"test_no_ui|static_assets", "llama-server's web page (it is not built here either)"),
    (r"test_cors_options", "answers pages of every site; edgegen lets none call unless it is listed"),
    (r"localhost_rejects|tools_enabled", "answers a page that may not call with 200 and no header; edgegen refuses it"),
    (r"test_cors_proxy", "a proxy for other sites: edgegen calls nobody"),
    (r"test_invalid_chat_completion_req\[messages7", "two assistant messages at the end: edgegen goes on with the last one"),
    (r"test_cache_vs_nocache", "skipped by llama-server's authors"),
)
"""Patterns of test ids, and why."""


def of(test: str) -> str | None:
    """The reason for a test, None where there is none."""
    return next((why for pattern, why in _REASONS if re.search(pattern, test)), None)
