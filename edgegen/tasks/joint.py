"""What several recommenders agree on: one text that gives the evidence of each."""

from edgegen.tasks import Line, Needs, Task, Tells

TASK = Task(
    name="joint",
    about="one text for what several recommenders agree on",
    needs=(Needs("item", facts=("name",)), Needs("by", least=2, most=4, facts=("source",))),
    shows=2,
    every=("by",),
    tells={"item": Tells((0, 0, 1)), "by": Tells((1,))},
    max_new_tokens=176,
    max_sentences=7,
    template={
        "en": (
            Line(("Here is why {name} is recommended.",)),
            Line((
                "From {source}: {similar_shoppers} of similar shoppers chose it.",
                "From {source}: it is often bought with {also_bought}.",
                "From {source}: you liked {liked}.",
                "From {source}: you bought {bought}.",
                "From {source}: you viewed {viewed}.",
                "From {source}: it matches your preference for {match}.",
                "From {source}: it is rated {rating}.",
                "From {source}: its review count is {reviews}.",
                "From {source}: a shopper said \"{quote}\".",
                "From {source}: sales stand at {sales}.",
                "From {source}: it is {discount} off.",
                "From {source}: it comes with {feature}.",
                "@trending From {source}: it is trending.",
                "@new From {source}: it is a new arrival.",
                "It is also recommended by {source}.",
            ), each="by"),
        ),
        "zh": (
            Line(("推荐{name}，依据来自多方。",)),
            Line((
                "从{source}来看，{similar_shoppers}的相似顾客选择了它。",
                "从{source}来看，它常和{also_bought}搭配购买。",
                "从{source}来看，它与您喜欢过的{liked}相似。",
                "从{source}来看，您买过{bought}。",
                "从{source}来看，您看过{viewed}。",
                "从{source}来看，{match}符合您的偏好。",
                "从{source}来看，有顾客说：“{quote}”。",
                "从{source}来看，已售出{sales}件。",
                "从{source}来看，顾客评分为{rating}。",
                "从{source}来看，共有{reviews}条评价。",
                "@trending 从{source}来看，近期热度上升。",
                "@new 从{source}来看，它是新品。",
                "从{source}来看，它带有{feature}。",
                "从{source}来看，现在{discount}。",
                "{source}也推荐了它。",
            ), each="by"),
        ),
    },
)  # fmt: skip
