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
                "{name}来自{brand}。",
                "来看看{name}，属于{category}。",
                "来看看{name}。",
            )),
            Line((
                "特点是{feature}，还有{feature2}。",
                "特点是{feature}。",
                "材质为{material}。",
                "{attr.key}：{attr}。",
            ), optional=True),
            Line((
                "材质为{material}。",
                "颜色为{color}。",
                "尺寸为{size}。",
                "适合{audience}。",
                "{attr.key}：{attr}。",
            ), optional=True),
            Line(("请注意，它没有{hasnt}。",), optional=True),
            Line(("售价{price}。",), optional=True),
        ),
    },
)  # fmt: skip
