"""Why this product: one or two sentences."""

from edgegen.tasks import Line, Needs, Task

TASK = Task(
    name="reason",
    about="why this product, in one or two sentences",
    needs=(Needs("item", facts=("name",)),),
    template={
        "en": (
            Line((
                "{similar_shoppers} of shoppers like you chose {name}.",
                "{name} goes with {also_bought}, which shoppers often buy with it.",
                "Because you liked {liked}: {name}.",
                "@rating.high {name} is rated {rating} by shoppers.",
                "{name} comes with {feature}.",
                "{name} is a pick in {category}.",
                "Have a look at {name}.",
            )),
            Line(("It is made of {material}.", "Its {attr.key}: {attr}.", "It costs {price}."), optional=True),
        ),
        "zh": (
            Line((
                "{similar_shoppers}的相似顾客选择了{name}。",
                "{name}常和{also_bought}一起被买走。",
                "您喜欢过{liked},不妨看看{name}。",
                "@rating.high {name}的顾客评分为{rating}。",
                "{name}的特点是{feature}。",
                "{name}是{category}里的一个选择。",
                "不妨看看{name}。",
            )),
            Line(("材质为{material}。", "{attr.key}:{attr}。", "售价{price}。"), optional=True),
        ),
    },
)  # fmt: skip
