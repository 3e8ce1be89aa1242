"""The Modelfile with which Ollama runs a pack's model. Knows no Ollama.

Instructions: https://docs.ollama.com/modelfile. The template passes the prompt on as it is, because edgegen's prompts are
not chats; what comes back has slots in place of values and is not checked.
"""

from __future__ import annotations

from pathlib import Path

from edgegen.engine.gguf import read_header
from edgegen.pack.manifest import MODEL, Manifest
from edgegen.slots import END

NAME = "Modelfile"
_TEXT = '''\
# {label}, a model of edgegen. In this folder: ollama create {name} -f Modelfile
{about}
FROM ./{model}
TEMPLATE """{{{{ .Prompt }}}}"""
PARAMETER stop "{end}"
{context}LICENSE """{licence}"""
'''

_SLOTS = """\
# It reads prompts of edgegen's own format and writes slots such as <|v1|> where values belong. Nothing is checked here:
# edgegen itself puts the values in, and shows a text only when its words are borne out by the facts."""
_PLAIN = "# It was trained for none of edgegen's tasks: it goes on with plain text, and nothing is checked."


def text(model: Path, manifest: Manifest) -> str:
    """The Modelfile for a model. Raises NotFoundError, PackError."""
    n_ctx = read_header(model).n_ctx_train
    return _TEXT.format(
        about=_SLOTS if manifest.tasks else _PLAIN, label=manifest.label, name=manifest.name.lower(), model=MODEL, end=END,
        context=f"PARAMETER num_ctx {n_ctx}\n" if n_ctx else "", licence=manifest.licence.replace('"""', "'''"),
    )  # fmt: skip
