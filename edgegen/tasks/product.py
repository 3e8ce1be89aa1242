"""A brief product description, which is also the spoken introduction of a live sale."""

from edgegen.tasks import Line, Needs, Task, Tells

TASK = Task(
    name="product",
    about="a brief product description, also spoken in a live sale",
    needs=(Needs("item", facts=("name",)),),
    shows=2,
    tells={"item": Tells((2, 3, 4))},
    max_new_tokens=128,
    max_sentences=5,
    template={
        "en": (
            Line((
                "{name} comes from {brand}.",
                "Let's take a look at {name}, a {category} pick.",
                "Let's take a look at {name}.",
            )),
            Line((
                "It comes with {feature} and {feature2}.",
                "It comes with {feature}.",
                "It is made of {material}.",
                "Its {attr.key}: {attr}.",
                "It is {is}.",
            ), optional=True),
            Line((
                "It is made of {material}.",
                "It comes in {color}.",
                "Its size is {size}.",
                "It is made for {audience}.",
                "Its {attr.key}: {attr}.",
                "It has {has}.",
                "It holds {capacity}.",
                "It weighs {weight}.",
                "It is meant for {occasion}.",
                "Its style is {style}.",
                "Its flavor is {flavor}.",
                "Its scent is {scent}.",
                "It comes from {origin}.",
                "Shoppers rate it {rating}.",
                "Warranty: {warranty}.",
                "Shipping: {shipping}.",
                "Returns: {returns}.",
                "{similar_shoppers} of similar shoppers chose it.",
                "It is often bought with {also_bought}.",
                "It is {discount} off now.",
                "So far {sales} have been sold.",
                "It has {reviews} reviews.",
                "It is tagged {tags}.",
                "In stock: {stock}.",
            ), optional=True),
            Line(("Note that it is not {isnt}.", "Note that it has no {hasnt}."), optional=True),
            Line(("It costs {price}.",), optional=True),
        ),
        "zh": (
            Line((
                "{name}由{brand}出品，材质为{material}。", "{name}由{brand}出品。", "{name}材质为{material}。",
                "{name}带有{feature}。", "想看{category}，可以看看{name}。", "不妨看看{name}。",
            )),
            Line((
                "带有{feature}，{attr.key}为{attr}。", "{attr.key}：{attr}。", "带有{feature}。", "颜色为{color}。", "它{is}。",
                "带有{has}。", "尺寸为{size}。", "容量为{capacity}。", "重量为{weight}。", "风格为{style}。", "口味为{flavor}。",
                "香味为{scent}。", "产自{origin}。", "顾客评分{rating}。", "质保：{warranty}。", "配送：{shipping}。",
                "退货：{returns}。", "{similar_shoppers}的相似顾客选择了它。", "常和{also_bought}搭配购买。",
                "现在打{discount}。", "已售出{sales}件。", "共有{reviews}条评价。", "标签：{tags}。", "库存{stock}件。",
            ), optional=True),
            Line(("适合{audience}。", "适合{occasion}。", "售价{price}。"), optional=True),
        ),
    },
)  # fmt: skip
