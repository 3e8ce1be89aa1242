"""A shopping list: a line with a reason for every item."""

from edgegen.tasks import ITEM_LINES, Line, Needs, Task, Tells

TASK = Task(
    name="list",
    about="a shopping list with a reason for every item",
    needs=(Needs("list", least=0), Needs("item", least=2, most=6, facts=("name",))),
    shows=2,
    tells={"list": Tells((1, 2)), "item": Tells((1, 1, 1, 2))},
    max_new_tokens=200,
    max_sentences=14,
    template={
        "en": (
            Line(
                ("A list for {topic}, with {budget} in mind:", "A list for {topic}:", "A list with {budget} in mind:", "A list:")
            ),
            Line(
                (
                    "- {name}: chosen by {similar_shoppers} of shoppers like you.",
                    "- {name}: often bought with {also_bought}.",
                    "- {name}: similar to {liked}, which you liked.",
                    "@rating.high - {name}: highly rated at {rating}.",
                    "- {name}: comes with {feature}.",
                    "- {name}: made of {material}.",
                    "- {name}: {discount} off now.",
                    "- {name}, {attr.key}: {attr}.",
                    *ITEM_LINES["en"],
                    "- {name}: worth a look.",
                    "- {name}.",
                ),
                each="item",
                joiner="\n",
            ),
        ),
        "zh": (
            Line(("“{topic}”购物清单，预算{budget}：", "“{topic}”购物清单：", "购物清单，预算{budget}：", "购物清单：")),
            Line(
                (
                    "- {name}：{similar_shoppers}的相似顾客选择了它。",
                    "- {name}：常和{also_bought}搭配购买。",
                    "- {name}：与您喜欢过的{liked}相似。",
                    "- {name}：您看过{viewed}，可以对照着看。",
                    "@rating.high - {name}：口碑不错，顾客评分{rating}。",
                    "@sales.high - {name}：卖得不错，已售出{sales}件。",
                    "- {name}：现在打{discount}(，售价{price}|)。",
                    "- {name}：带有{feature}(，售价{price}|)。",
                    "- {name}：{material}材质(，售价{price}|)。",
                    "- {name}：适合{occasion}(，售价{price}|)。",
                    "- {name}：{attr.key}为{attr}(，售价{price}|)。",
                    *ITEM_LINES["zh"],
                    "- {name}：可以放进备选。",
                    "- {name}。",
                ),
                each="item",
                joiner="\n",
            ),
        ),
    },
)
