"""A chat template in a model's file, where llama-server would take one from its flags. Knows no HTTP.

edgegen takes the template that a model brings. llama-server takes one by flag, and falls back to ChatML; so the shim serves a
copy of the model that brings it. The templates by name are llama.cpp's built-in layouts, written anew for Jinja.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

_TURNS = "{% for message in messages %}"
NAMED = {
    "chatml": _TURNS + "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "llama3": _TURNS
    + "<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n{{ message.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
    "command-r": _TURNS
    + "<|START_OF_TURN_TOKEN|><|{{ {'system': 'SYSTEM', 'user': 'USER', 'assistant': 'CHATBOT'}[message.role] }}"
    "_TOKEN|>{{ message.content }}<|END_OF_TURN_TOKEN|>{% endfor %}"
    "{% if add_generation_prompt %}<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{% endif %}",
}


def wanted(flags: Namespace, brought: bool) -> str | None:
    """The template that the flags ask for; None where the model's own will do."""
    if flags.chat_template_file:
        return str(flags.chat_template_file.read_text("utf-8"))
    if flags.chat_template:
        return NAMED.get(flags.chat_template, str(flags.chat_template))
    return None if brought else NAMED["chatml"]


def with_template(model: Path, template: str, out: Path) -> None:
    """Copy a GGUF file, its chat template exchanged."""
    from gguf import GGUFReader, GGUFValueType, GGUFWriter

    reader = GGUFReader(model)
    writer = GGUFWriter(out, str(reader.fields["general.architecture"].contents()))
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "tokenizer.chat_template"):
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kind, sub_type=inner)
    writer.add_chat_template(template)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def brings(model: Path) -> bool:
    """Whether a model has a chat template of its own."""
    from gguf import GGUFReader

    return "tokenizer.chat_template" in GGUFReader(model).fields
