"""Suggestions related to a search, with a reason for every product."""

from edgegen.tasks import ITEM_LINES, Line, Needs, Task, Tells

TASK = Task(
    name="search",
    about="suggestions related to a search, with reasons",
    needs=(Needs("query", facts=("query",)), Needs("item", most=4, facts=("name",))),
    tells={"query": Tells((0,)), "item": Tells((1, 1, 1, 2))},
    max_new_tokens=128,
    max_sentences=10,
    template={
        "en": (
            Line(('For "{query}", consider:',)),
            Line(
                (
                    "- {name}: chosen by {similar_shoppers} of shoppers like you.",
                    "@rating.high - {name}: highly rated at {rating}.",
                    "- {name}: comes with {feature}.",
                    "- {name}: made of {material}.",
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
            Line(("搜索“{query}”，可以看看这些商品：",)),
            Line(
                (
                    "- {name}：{similar_shoppers}的相似顾客选择了它。",
                    "@rating.high - {name}：口碑不错，顾客评分{rating}。",
                    "- {name}：带有{feature}(，售价{price}|)。",
                    "- {name}：{material}材质(，售价{price}|)。",
                    "- {name}：{attr.key}为{attr}(，售价{price}|)。",
                    *ITEM_LINES["zh"],
                    "- {name}：不妨点开看看。",
                    "- {name}。",
                ),
                each="item",
                joiner="\n",
            ),
        ),
    },
)
