"""How to choose within a category: what to look at, and some products as examples."""

from edgegen.tasks import ITEM_LINES, Line, Needs, Task, Tells

# The lines about the category say `each="guide"`: a lone item's own category must not stand in for it.
TASK = Task(
    name="guide",
    about="how to choose within a category",
    needs=(Needs("guide", facts=("category", "criterion")), Needs("item", least=0, most=3, facts=("name",))),
    mentions=("category",),
    tells={"guide": Tells((2, 3, 4)), "item": Tells((1,), sections=(0, 1, 2))},
    max_new_tokens=160,
    max_sentences=10,
    template={
        "en": (
            Line(
                (
                    "There are {products} products in the {category} range, from {lowest} to {highest}.",
                    "{category} prices run from {lowest} to {highest}.",
                    "Here is how to compare {category} options.",
                ),
                each="guide",
            ),
            Line(
                (
                    "Compare {criterion}, {criterion2}, and {criterion3}.",
                    "Compare {criterion} and {criterion2}.",
                    "Start with {criterion}.",
                ),
                each="guide",
            ),
            Line(
                (
                    "- {name}: comes with {feature}.",
                    "- {name}: made of {material}.",
                    "- {name}, {attr.key}: {attr}.",
                    *ITEM_LINES["en"],
                    "- {name}: an option to compare.",
                    "- {name}.",
                ),
                each="item",
                joiner="\n",
            ),
        ),
        "zh": (
            Line(
                (
                    "{category}共有{products}款可选，价格从{lowest}到{highest}。",
                    "{category}的价格从{lowest}到{highest}。",
                    "选购{category}，可以从下面的要点看起。",
                ),
                each="guide",
            ),
            Line(
                (
                    "先看{criterion}，再比较{criterion2}和{criterion3}。",
                    "先看{criterion}，再比较{criterion2}。",
                    "不妨先看{criterion}。",
                ),
                each="guide",
            ),
            Line(
                (
                    "- {name}：带有{feature}(，售价{price}|)。",
                    "- {name}：{material}材质(，售价{price}|)。",
                    "- {name}：{attr.key}为{attr}(，售价{price}|)。",
                    *ITEM_LINES["zh"],
                    "- {name}：可以拿来对照。",
                    "- {name}。",
                ),
                each="item",
                joiner="\n",
            ),
        ),
    },
)
