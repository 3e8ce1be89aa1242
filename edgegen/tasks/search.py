"""Suggestions related to a search, with a reason for every product."""

from edgegen.tasks import Line, Needs, Task

TASK = Task(
    name="search",
    about="suggestions related to a search, with reasons",
    needs=(Needs("query", facts=("query",)), Needs("item", most=4, facts=("name",))),
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
                    "- {name}: made for {audience}.",
                    "- {name}: a pick for {occasion}.",
                    "- {name}: it is {is}.",
                    "- {name}: it has {has}.",
                    "- {name}: it costs {price}.",
                    "- {name}: it comes in {color}.",
                    "- {name}: its size is {size}.",
                    "- {name}: it holds {capacity}.",
                    "- {name}: it weighs {weight}.",
                    "- {name}: rated {rating}.",
                    "- {name}: from {brand}.",
                    "- {name}: a {category} pick.",
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
                    "- {name}：适合{audience}。",
                    "- {name}：适合{occasion}。",
                    "- {name}：它{is}。",
                    "- {name}：带有{has}。",
                    "- {name}：售价{price}。",
                    "- {name}：颜色为{color}。",
                    "- {name}：尺寸为{size}。",
                    "- {name}：容量为{capacity}。",
                    "- {name}：重量为{weight}。",
                    "- {name}：顾客评分{rating}。",
                    "- {name}：由{brand}出品。",
                    "- {name}：属于{category}。",
                    "- {name}：不妨点开看看。",
                    "- {name}。",
                ),
                each="item",
                joiner="\n",
            ),
        ),
    },
)
