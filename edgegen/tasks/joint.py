"""What several recommenders agree on: one text that gives the evidence of each."""

from edgegen.tasks import Line, Needs, Task

TASK = Task(
    name="joint",
    about="one text for what several recommenders agree on",
    needs=(Needs("item", facts=("name",)), Needs("by", least=2, most=4, facts=("source",))),
    shows=2,
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
            Line(("推荐{name}，依据如下。",)),
            Line((
                "{source}：{similar_shoppers}的相似顾客选择了它。",
                "{source}：它常和{also_bought}一起购买。",
                "{source}：您喜欢过{liked}。",
                "{source}：您买过{bought}。",
                "{source}：您看过{viewed}。",
                "{source}：符合您的偏好，{match}。",
                "{source}：评分{rating}。",
                "{source}：有{reviews}条评价。",
                "{source}：有顾客说“{quote}”。",
                "{source}：已售{sales}件。",
                "{source}：现享{discount}。",
                "{source}：特点是{feature}。",
                "@trending {source}：近期热度上升。",
                "@new {source}：这是新品。",
                "它也来自{source}的推荐。",
            ), each="by"),
        ),
    },
)  # fmt: skip
