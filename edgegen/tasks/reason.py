"""Why this product: one or two sentences."""

from edgegen.tasks import Line, Needs, Task, Tells

TASK = Task(
    name="reason",
    about="why this product, in one or two sentences",
    needs=(Needs("item", facts=("name",)),),
    tells={"item": Tells((1, 1, 2, 2, 3))},
    template={
        "en": (
            Line((
                "{similar_shoppers} of shoppers like you chose {name}.",
                "{name} goes with {also_bought}, which shoppers often buy with it.",
                "Because you liked {liked}, take a look at {name}.",
                "You bought {bought} before, so {name} may be of interest.",
                "You viewed {viewed}, and {name} is another option to compare.",
                "{name} matches your preference for {match}.",
                "A shopper says about {name}: \"{quote}\".",
                "@rating.high {name} is rated {rating} by shoppers.",
                "@sales.high {name} is a bestseller with {sales} sold.",
                "@trending {name} is trending right now.",
                "@new {name} is a new arrival.",
                "{name} is {discount} off now.",
                "{name} comes with {feature}.",
                "{name} is made for {audience}.",
                "{name} is a {category} pick.",
                "Have a look at {name}.",
            )),
            Line((
                "It is made of {material}.",
                "{attr.key}: {attr}.",
                "It also comes with {feature}.",
                "It is {is}.",
                "It comes in {color}.",
                "It costs {price}.",
                "It has {has}.",
                "Its size is {size}.",
                "It holds {capacity}.",
                "It weighs {weight}.",
                "It comes from {origin}.",
                "It is from {brand}.",
                "Warranty: {warranty}.",
            ), optional=True),
        ),
        "zh": (
            Line((
                "{similar_shoppers}的相似顾客选择了{name}。",
                "{name}常和{also_bought}搭配购买。",
                "您喜欢过{liked}，不妨看看{name}。",
                "@rating.high {name}的顾客评分为{rating}。",
                "{name}的特点是{feature}。",
                "看{category}时，可以留意{name}。",
                "不妨看看{name}。",
            )),
            Line((
                "材质为{material}。", "{attr.key}：{attr}。", "售价{price}。", "它{is}。", "带有{has}。",
                "颜色为{color}。", "适合{audience}。", "适合{occasion}。", "尺寸为{size}。", "容量为{capacity}。",
                "重量为{weight}。", "风格为{style}。", "口味为{flavor}。", "香味为{scent}。", "产自{origin}。",
                "由{brand}出品。", "现在打{discount}。", "已售出{sales}件。", "共有{reviews}条评价。", "质保：{warranty}。",
                "配送：{shipping}。", "退货：{returns}。", "标签：{tags}。",
            ), optional=True),
        ),
    },
)  # fmt: skip
