"""A long list of reasons condensed to its key points."""

from edgegen.tasks import Line, Needs, Task, Tells

TASK = Task(
    name="summary",
    about="a long list of reasons condensed to its key points",
    needs=(Needs("item", facts=("name",)), Needs("reason", least=3, most=8, facts=("point",))),
    shows=2,
    tells={"item": Tells((0,)), "reason": Tells((0, 0, 0, 1), sections=(2, 3, 4))},
    max_new_tokens=112,
    max_sentences=5,
    template={
        "en": (Line(("What shoppers praise about {name}: {point}, {point2} and {point3}.",)),),
        "zh": (
            Line(
                (
                    "顾客称赞{name}{point}、{point2}和{point3}。",
                    "顾客称赞{name}{point}和{point2}。",
                    "顾客称赞{name}{point}。",
                )
            ),
        ),
    },
)
