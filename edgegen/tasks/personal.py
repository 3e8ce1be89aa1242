"""Why this product for this shopper: from what they like, need, spend, or looked at before."""

from edgegen.tasks import Line, Needs, Task, Tells

TASK = Task(
    name="personal",
    about="why this product for one shopper's profile and history",
    needs=(Needs("item", facts=("name",)), Needs("shopper", least=0)),
    any_of=("likes", "need", "budget", "liked", "bought", "viewed", "match"),
    tells={"item": Tells((0, 1, 1, 2)), "shopper": Tells((0, 1, 1, 2))},
    template={
        "en": (
            Line((
                "Because you liked {liked}, you may want to see {name}.",
                "You bought {bought} before, so {name} may be of interest.",
                "You like {likes}, so here is {name} for you to consider.",
                "{name} matches your preference for {match}.",
                "For {need}, {name} is an option to consider.",
                "You viewed {viewed}, and {name} is another option to compare.",
                "With your budget of {budget} in mind, here is {name}.",
                "{name} may be worth a look.",
            )),
            Line((
                "{similar_shoppers} of shoppers like you chose it.",
                "It comes with {feature}.",
                "It is made of {material}.",
                "Its {attr.key}: {attr}.",
                "It costs {price}.",
            ), optional=True),
        ),
        "zh": (
            Line((
                "{name}与您喜欢过的{liked}相似。",
                "您买过{bought}，{name}也可以看看。",
                "您看过{viewed}，不妨也看看{name}。",
                "{name}的{match}符合您的偏好。",
                "您喜欢{likes}，不妨看看{name}。",
                "您的用途是{need}，不妨看看{name}。",
                "您的预算是{budget}，{name}售价{price}。",
                "您的预算是{budget}，可以对照看看{name}。",
                "不妨看看{name}。",
            )),
            Line((
                "{similar_shoppers}的相似顾客选了它。", "带有{feature}。", "材质为{material}。", "{attr.key}：{attr}。",
                "售价{price}。",
            ), optional=True),
        ),
    },
)  # fmt: skip
