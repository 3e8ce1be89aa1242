"""Other wordings by translation into the other language and back, by a model behind an endpoint.

Values never leave: their slots go as placeholders, `{v4}`, with the name of what they stand for. What comes back is kept where it
has the same placeholders, tells the same facts, and has no fault that the pair lacks.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from convert.output import whole
from edgegen import schema, slots, tasks
from edgegen.domain import Lang
from edgegen.errors import DataError, OptionError
from edgegen.evaluation import cases
from edgegen.slots import Slot, label_of
from edgegen.train import asked, pairs
from edgegen.train.asked import SEED_STEP, TOKENS, Estimate, Question
from edgegen.train.augment import check
from edgegen.train.endpoint import EndpointOptions
from edgegen.train.pairs import Pair
from edgegen.train.prepare import duplicates, matching, texts
from edgegen.train.prepare.options import PrepareOptions

THERE, BACK, PAIRS = "there.jsonl", "back.jsonl", "pairs.jsonl"
_MARK, _PLACE = re.compile(r"<\|v(\d+)\|>"), re.compile(r"[{｛]\s*v(\d+)\s*[}｝]")
_OTHER: Mapping[Lang, Lang] = {"en": "zh", "zh": "en"}
_NAMES: Mapping[Lang, str] = {"en": "English", "zh": "Chinese"}
_SYSTEM = (
    "Translate the shop's text into {language}. Say neither more nor less than it says. {places}, stand for values: each has to "
    "be in the translation as often as in the text, unchanged, where its value belongs. Keep line breaks. Answer with the "
    "translation alone."
)


@dataclass(frozen=True, slots=True)
class BackOptions:
    """How many wordings, and how varied."""

    n: int = 2
    """Translations back of each pair. 1 to 32."""
    temperature: float = 0.7
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges. Raises OptionError."""
        if not 1 <= self.n <= 32 or not 0 <= self.temperature <= 2 or self.seed < 0:
            raise OptionError("n must be in [1, 32], temperature in [0, 2] and seed at least 0.")


@dataclass(frozen=True, slots=True)
class Made:
    """The copies, and how many answers had each reason not to become one."""

    copies: Sequence[Pair]
    left_out: Mapping[str, int]


def estimate(found: Sequence[Pair], out: Path, options: BackOptions) -> Estimate:
    """What is left to ask, and about how many tokens it takes; what a translation will be like is not known yet."""
    there, back = ({row["id"] for row in asked.read(out / name)} for name in (THERE, BACK))
    questions, read, written = 0, 0.0, 0.0
    for pair in _own(found):
        lang = pair.request.lang
        size = len(pair.text) / TOKENS[lang]
        head = len(_messages(pair, lang, "")[0]["content"]) / TOKENS["en"]
        for answers in [1] * (pair.digest not in there) + [options.n] * (pair.digest not in back):
            questions, read, written = questions + 1, read + head + size, written + answers * size
    return Estimate(questions, round(read), round(written))


def back_translate(
    found: Sequence[Pair], out: Path, endpoint: EndpointOptions, options: BackOptions, *, say: Callable[[str], None],
    transport: httpx.AsyncBaseTransport | None = None,
) -> Made:  # fmt: skip
    """Ask for what `out` lacks, and write `out/pairs.jsonl`: all pairs, and after them their copies.

    Pairs that would be held out are not translated. Raises DataError, EngineError, StorageError; what was answered stays.
    """
    own = {pair.digest: pair for pair in _own(found)}
    if not own:
        raise DataError("There is nothing to translate: no pair has a text of its own and teaches. Give more pairs.")
    out.mkdir(parents=True, exist_ok=True)
    done = {row["id"] for row in asked.read(out / THERE)}
    questions = [
        _question(pair, _OTHER[pair.request.lang], _out(pair.text), 1, options) for id_, pair in own.items() if id_ not in done
    ]
    asked.gather(questions, out / THERE, endpoint, say, transport)
    asked.gather(list(_backwards(own, out, options)), out / BACK, endpoint, say, transport)
    made, left_out = list[Pair](), Counter[str]()
    for row in asked.read(out / BACK):
        for text in row["texts"] if row["id"] in own else ():
            judged = _judged(own[row["id"]], text)
            made += [judged] if isinstance(judged, Pair) else []
            left_out.update([judged] if isinstance(judged, str) else [])
    again = list(duplicates.repeated([check.seen(pair) for pair in (*found, *made)], PrepareOptions.alike))[len(found) :]
    copies = [pair for pair, said in zip(made, again, strict=True) if said is None]
    left_out.update(said for said in again if said)
    with whole(out / PAIRS) as part:
        pairs.write(part, [*found, *copies])
    return Made(copies, dict(left_out))


def _own(found: Sequence[Pair]) -> Iterator[Pair]:
    """The pairs that teach, were made from no other and choose no text; of those that a model sees alike the first."""
    seen = set[tuple[str, str]]()
    for pair in pairs.split(found)[0]:
        if pair.copy_of is None and not tasks.get(pair.request.task).choices and (key := check.seen(pair)) not in seen:
            seen.add(key)
            yield pair


def _backwards(own: Mapping[str, Pair], out: Path, options: BackOptions) -> Iterator[Question]:
    """A question for each translation that has all values and was not translated back yet."""
    done = {row["id"] for row in asked.read(out / BACK)}
    for row in asked.read(out / THERE):
        pair = own.get(row["id"])
        if pair and row["id"] not in done and row["texts"] and _values(row["texts"][0]) == _values(_out(pair.text)):
            yield _question(pair, pair.request.lang, row["texts"][0], options.n, options)


def _question(pair: Pair, into: Lang, text: str, n: int, options: BackOptions) -> Question:
    seed = options.seed * SEED_STEP + zlib.crc32(pair.digest.encode()) % SEED_STEP * options.n
    return Question({"id": pair.digest}, _messages(pair, into, text), n, options.temperature, 64 + 2 * len(text), seed)


def _messages(pair: Pair, into: Lang, text: str) -> list[dict[str, str]]:
    prompt = tasks.get(pair.request.task).prompt(pair.request)
    shown = [s for s in slots.parse(pair.text, prompt) if isinstance(s, Slot)]
    places = "Marks in braces, " + ", ".join(f"{{v{slot.index}}} for the {_name(slot)}" for slot in dict.fromkeys(shown))
    return [
        {"role": "system", "content": _SYSTEM.format(language=_NAMES[into], places=places)},
        {"role": "user", "content": text},
    ]


def _name(slot: Slot) -> str:
    known = schema.known().get(slot.fact.key)
    return known.label("en") if known else label_of(slot.fact) or slot.fact.key


def _out(text: str) -> str:
    return _MARK.sub(r"{v\1}", text)


def _values(text: str) -> Counter[str]:
    return Counter(_PLACE.findall(text))


def _judged(pair: Pair, text: str) -> Pair | str:
    """The copy that an answer makes, or why it makes none."""
    if _values(text) != _values(_out(pair.text)):
        return "a value lost, or one too many"
    lang = pair.request.lang
    marked = _PLACE.sub(r"<|v\1|>", texts.tidy(re.sub(r" ?([{｛]v\d+[}｝]) ?", r"\1", text) if lang == "zh" else text))
    made = Pair(pair.request, marked, copy_of=pair.digest)
    if check.faults(made) - check.faults(pair):
        return "untrue, or badly made"
    prompt = tasks.get(pair.request.task).prompt(pair.request)
    segments = slots.parse(marked, prompt)
    if matching.copied(segments, prompt):
        return "a value in words"
    same = set(cases.told(segments, prompt).evidence) == set(cases.told(slots.parse(pair.text, prompt), prompt).evidence)
    return made if same else "other facts told"
