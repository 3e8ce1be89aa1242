"""A brief product description, which is also the spoken introduction of a live sale."""

from edgegen.tasks import Line, Needs, Task

TASK = Task(
    name="product",
    about="a brief product description, also spoken in a live sale",
    needs=(Needs("item", facts=("name",)),),
    shows=2,
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
                "带有{has}。",
            ), optional=True),
            Line(("适合{audience}。", "适合{occasion}。", "售价{price}。"), optional=True),
        ),
    },
)  # fmt: skip
