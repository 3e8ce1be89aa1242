"""The category of a product: a path of the shop's own category tree, chosen by the words of its title."""

from edgegen.tasks import Needs, Task

# The text is always one of the shop's paths, so there is no template: the caller takes the likeliest path.
TASK = Task(
    name="category",
    about="the path of a product in the shop's category tree",
    needs=(Needs("item", facts=("title_words",)),),
    mentions=(),
    shows=0,
    max_new_tokens=48,
    max_sentences=1,
    choices=True,
)
