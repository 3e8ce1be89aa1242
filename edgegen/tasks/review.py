"""A draft of a review, from nothing but the shopper's own ratings of aspects."""

from edgegen.tasks import Line, Needs, Task, Tells


def _several(before: str, level: str, between: str, after: str) -> str:
    """A pattern that names up to eight aspects of a level."""
    return before + f"{{{level}}}" + "".join(f"({between}{{{level}{n}}}|)" for n in range(2, 9)) + after


TASK = Task(
    name="review",
    about="a draft of a review from the shopper's own ratings of aspects",
    needs=(Needs("item", facts=("name",)), Needs("ratings")),
    shows=2,
    whole=("ratings",),
    tells={"item": Tells((0,))},
    max_new_tokens=120,
    max_sentences=8,
    template={
        "en": (
            Line(("My review of {name}.",)),
            Line((_several("What I like: ", "good", ", ", "."),), optional=True),
            Line((_several("All right for me: ", "okay", ", ", "."),), optional=True),
            Line((_several("What could be better: ", "bad", ", ", "."),), optional=True),
        ),
        "zh": (
            Line(("说说我对{name}的感受。",)),
            Line((_several("满意的地方：", "good", "、", "。"),), optional=True),
            Line((_several("中规中矩的地方：", "okay", "、", "。"),), optional=True),
            Line((_several("不满意的地方：", "bad", "、", "。"),), optional=True),
        ),
    },
)
