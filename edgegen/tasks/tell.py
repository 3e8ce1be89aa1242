"""A text that tells all it is given, as meaning representations ask for: `inform(name=...;price=...)`.

Section `act` says what the text is to do (recommend, compare, ask to confirm) and what is of no matter or unknown; the items
need no name. Which facts to tell is not chosen, and the project's own corpus has no such texts: a retailer's own teach it.
"""

from edgegen import schema
from edgegen.domain import Fact, Kind
from edgegen.slots import Prompt, Segment, label_of
from edgegen.tasks import Needs, Task

_STOP = {"en": ". ", "zh": "。"}
_BARE = {"en": "What would you like to know?", "zh": "您想了解什么？"}


class _Tell(Task):
    """Its template lists the facts of each item: any number of any keys, which no pattern with holes can."""

    def draft(self, prompt: Prompt) -> list[Segment]:
        """The facts of each item under their labels, as segments."""
        stop = _STOP[prompt.request.lang]
        out: list[Segment] = []
        for index, section in enumerate(prompt.request.sections):
            if section.label == "item" and section.facts:
                for at, fact in enumerate(section):
                    out += _told(prompt, index, fact, first=at == 0)
                out.append(stop)
        if not out:
            return [_BARE[prompt.request.lang]]
        return [*out[:-1], stop.strip()]


def _told(prompt: Prompt, section: int, fact: Fact, *, first: bool) -> list[Segment]:
    english = prompt.request.lang == "en"
    value, label = prompt.find(section, fact), prompt.find(section, fact, "label")
    out: list[Segment] = [] if first else [", " if english else "，"]
    if fact.key == "name" and value:
        return [*out, value]
    if fact.kind is Kind.FLAG:
        said: Segment = label or schema.known()[fact.key].label(prompt.request.lang)
        return [*out, said] if fact.value else [*out, "no " if english else "没有", said]
    name: Segment = label or schema.known()[fact.key].label(prompt.request.lang)
    if first and english and isinstance(name, str):
        name = name.capitalize()
    return [*out, name, ": " if english else "：", value or label_of(fact) or ""]


TASK = _Tell(
    name="tell",
    about="a text that tells every fact of a meaning representation",
    needs=(Needs("item", least=0, most=6), Needs("act", least=0)),
    mentions=(),
    shows=0,
    whole=("item",),
    given=("act",),
    in_order=True,
    max_new_tokens=160,
    max_sentences=8,
    temperature=0.25,
    own=True,
)
