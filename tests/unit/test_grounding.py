"""Grounding as tables: a text with holes, the facts, and the rules it breaks."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from edgegen import claims, grounding, patterns, slots, tasks
from edgegen.claims import ClaimRule
from edgegen.domain import LANGS, Fact, Kind, Lang, Level, Request, Section
from tests.fakes.facts import ASPECTS, aspect, check, item, known, no, phrase, rules, yes

# --- claims: taking the evidence away turns the verdict


def evidence(need: str, rule: ClaimRule) -> list[Fact]:
    """Facts that meet a need of a claim."""
    key, _, level = need.partition(".")
    if level in ("words", "says") or need in ("words", "same"):
        found = rule.regex.search(rule.example.lower())
        assert found
        return [Fact(key if level else "feature", found.groupdict().get("w") or found.group(), Kind.PHRASE)]
    if need == "good":
        return [aspect("fit", Level.HIGH)]
    if need == "within_budget":
        return [known("price", Decimal(5)), known("budget", Decimal(9))]
    return [known(key, level=None if level in ("", "given") else Level(level))]


CLAIMS = [pytest.param(lang, rule, id=f"{lang}-{rule.id}") for lang in LANGS for rule in claims.table(lang).claims]


@pytest.mark.parametrize(("lang", "rule"), CLAIMS)
def test_claims_need_their_evidence(lang: Lang, rule: ClaimRule) -> None:
    """The example of a claim passes with each of its evidences, cites it, and fails without."""
    for need in rule.needs:
        facts = evidence(need, rule)
        verdict = check(rule.example, [item(*facts)], lang=lang)
        cited = {key for claim in verdict.claims for _, key in claim.evidence}
        assert not [v for v in verdict.violations if v.rule == "claim"], need
        assert cited & {fact.key for fact in facts}, need
    assert "claim" in rules(check(rule.example, [item()], lang=lang))


@pytest.mark.parametrize("lang", LANGS)
def test_the_tables_are_wide(lang: Lang) -> None:
    """There are enough claims, and no two have the same name."""
    ids = [rule.id for rule in claims.table(lang).claims]
    assert len(ids) >= 60
    assert len(ids) == len(set(ids))


def test_levels_count() -> None:
    """A low price bears `affordable` out, a high one does not; nor does another shopper's wish."""
    assert rules(check("{name} is affordable at {price}.", [item(known("price", level=Level.LOW))])) == set()
    assert rules(check("{name} is affordable at {price}.", [item(known("price", level=Level.HIGH))])) == {"claim"}
    wish = Section("shopper", (Fact("likes", "waterproof boots", Kind.PHRASE),))
    assert "claim" in rules(check("You like {likes}, and {name} is waterproof.", [item(), wish], "personal"))


def test_claims_are_listed_with_their_facts() -> None:
    """Each slot and each claim in words is listed with section and key."""
    verdict = check("{name} is a bestseller with {sales} sold.", [item(known("sales", Decimal(3600), Level.HIGH))])
    assert verdict.ok
    assert {(claim.text, claim.evidence) for claim in verdict.claims} == {
        ("Mug", ((0, "name"),)), ("3,600", ((0, "sales"),)), ("bestseller", ((0, "sales"),)),
    }  # fmt: skip


ITEMS = [
    item(known("price", Decimal(5), Level.LOW)),
    Section("item", (Fact("name", "Cup", Kind.TEXT), known("price", Decimal(90), Level.HIGH), known("sales", level=Level.HIGH))),
]
SOURCES = [
    item(),
    Section("by", (known("source", "peers"), known("similar_shoppers", Decimal(80), Level.HIGH))),
    Section("by", (known("source", "sales desk"), known("sales", Decimal(3600), Level.HIGH), known("trending"))),
]
POINTS = [
    item(),
    *[Section("reason", (known("point", p), known("votes", Decimal(n)))) for p, n in (("grip", 9), ("lid", 5), ("rim", 3))],
]
SCOPES: list[tuple[str, list[Section], str, set[str]]] = [
    ("- {1.name}: affordable at {1.price}.\n- {2.name}: {2.sales} sold.", ITEMS, "list", set()),
    ("- {1.name}: {1.price}.\n- {2.name}: affordable at {2.price}.", ITEMS, "list", {"claim"}),
    ("- {1.name}: a bestseller at {1.price}.\n- {2.name}: {2.price}.", ITEMS, "list", {"claim"}),
    ("- {1.name}: at {1.price}.\n- {2.name}: a bestseller.\n{2.sales} sold.", ITEMS, "list", set()),
    ("- {1.name}: {2.price}.\n- {2.name}: {1.price}.", ITEMS, "list", {"mixed"}),
    ("{1.name} costs {1.price}, while {2.name} costs {2.price}.", ITEMS, "list", set()),
    ("{1.name} costs {2.price}, while {2.name} costs {1.price}.", ITEMS, "list", {"mixed"}),
    ("Both {1.name} and {2.name} are bestsellers, at {1.price} and {2.price}.", ITEMS, "list", {"claim"}),
    ("- {1.name}: {1.price}.\n- An extra item: {2.price}.", ITEMS, "list", {"missing"}),
    ("{name}. §1|According to {source}, {similar_shoppers} of similar shoppers chose it. §2|{source}: {sales} sold.",
     SOURCES, "joint", set()),
    ("{name}. §1|According to {source}, §2|{sales} sold. §1|{similar_shoppers} of similar shoppers chose it.",
     SOURCES, "joint", {"mixed"}),
    ("{name}. §2|According to {source}, it is trending. §1|{similar_shoppers} of similar shoppers chose it.",
     SOURCES, "joint", set()),
    ("{name}. §1|According to {source}, it is trending. {similar_shoppers} of similar shoppers chose it. §2|{sales} sold.",
     SOURCES, "joint", {"claim"}),
    ("{name}: §1|{votes} shoppers praise the {point}, and §2|{votes} praise the {point}.", POINTS, "summary", set()),
    ("{name}: §2|{votes} shoppers praise the §1|{point}, and {votes} praise the §2|{point}.", POINTS, "summary", {"mixed"}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "sections", "task", "broken"), SCOPES)
def test_facts_stay_with_their_subject(text: str, sections: list[Section], task: str, broken: set[str]) -> None:
    """What one product, recommender or reason offers is not told of another."""
    assert rules(check(text, sections, task)) == broken


RATED = [
    item(
        known("rating", Decimal("4.8"), Level.HIGH), known("reviews", Decimal(210)), known("stock", Decimal(4), Level.LOW),
        known("sales", Decimal(90), Level.MID), known("discount", Decimal(15)), known("price", Decimal(20)),
        known("was_price", Decimal(25)), known("similar_shoppers", Decimal(87), Level.HIGH), known("material", "oak"),
        known("origin", "Japan"), known("quote", "holds well"), known("released"), known("weight", "300 g"),
        known("also_bought", "Plate"), known("feature", "18/10 steel rim"),
    )
]  # fmt: skip
EN_CONTEXTS = [
    ("{name} is rated {rating}.", True), ("{name} is rated {stock}.", False), ("{name} is rated {sales} by all.", False),
    ("{name} has {reviews} reviews.", True), ("{name} has {stock} reviews.", False), ("{name}, from {price} reviews.", False),
    ("{name} is {discount} off.", True), ("{name} is {price} off.", False), ("{name} is {similar_shoppers} off.", False),
    ("{name} costs {price}.", True), ("{name} costs {reviews}.", False), ("{name} is priced at {sales}.", False),
    ("{name}: {similar_shoppers} of similar shoppers chose it.", True), ("{name}: {discount} of shoppers chose it.", False),
    ("{name}: {stock} left.", True), ("{name}: {sales} left.", False), ("{name}: {sales} sold.", True),
    ("{name}: {reviews} sold.", False), ("{name} is made of {material}.", True), ("{name} is made of {origin}.", False),
    ("{name} is made in {origin}.", True), ("{name} is made in {material}.", False),
    ("The original price of {name} was {was_price}.", True), ("{name} was {was_price} and now costs {was_price}.", False),
    ("{name} is down from {was_price}.", True), ("{name} is down from {price}.", False),
    ('A shopper said "{quote}" of {name}.', True), ("A shopper of {name} found it {quote}.", False),
    ("{name} weighs {weight}.", True), ("{name} weighs {price}.", False), ("{name} came out on {released}.", True),
    ("{name} came out on {price}.", False), ("{name} is often bought with {also_bought}.", True),
    ("{name} is often bought with {material}.", False), ("{name} is {price} dollars.", False),
    ("{name} is {discount}% off.", False),
]  # fmt: skip
ZH_CONTEXTS = [
    ("{name}评分{rating}。", True), ("{name}评分{stock}。", False), ("{name}有{reviews}条评价。", True),
    ("{name}有{stock}条评价。", False), ("{name}售价{price}。", True), ("{name}售价{reviews}。", False),
    ("{name}原价{was_price}。", True), ("{name}原价{price}。", False), ("{name}现在打{discount}。", True),
    ("{name}现在打{price}。", False), ("{name}：{similar_shoppers}的相似顾客选了它。", True),
    ("{name}：{rating}的相似顾客选了它。", False), ("{name}已售出{sales}件。", True), ("{name}已售出{price}件。", False),
    ("{name}库存{stock}件。", True), ("{name}库存{sales}件。", False), ("{name}材质为{material}。", True),
    ("{name}材质为{origin}。", False), ("{name}产自{origin}。", True), ("{name}产自{material}。", False),
    ("{name}重{weight}。", True), ("{name}重{price}。", False), ("{name}售价{price}元。", False),
    ("有顾客说“{quote}”，说的是{name}。", True), ("{name}，{quote}，可以看看。", False), ("{name}打出{price}的高分。", False),
]  # fmt: skip


CONTEXTS = [("en", *row) for row in EN_CONTEXTS] + [("zh", *row) for row in ZH_CONTEXTS]


@pytest.mark.parametrize(("lang", "text", "fine"), CONTEXTS)
def test_slots_stand_where_they_belong(lang: Lang, text: str, fine: bool) -> None:
    """A slot of the wrong kind after or before certain words is caught."""
    assert ("context" not in rules(check(text, RATED, lang=lang))) is fine


def test_digits_stay_in_their_words() -> None:
    """A number that is part of a read phrase is used with the words that follow it."""
    prompt = slots.bind(Request("reason", "en", (item(known("warranty", "2-year warranty")),)))
    digits = next(slot for slot in prompt.slots if slot.part == "digits")
    name = prompt.slots[0]
    task = tasks.get("reason")
    assert rules(grounding.check([name, " comes with a ", digits, "-year warranty."], prompt, task)) == set()
    assert rules(grounding.check([name, " has been out for ", digits, " decades."], prompt, task)) == {"context"}


CONTENT: list[tuple[Lang, str, Fact, bool]] = [
    ("en", "{name} has easy returns.", phrase("returns", "No return policy"), False),
    ("en", "{name} is refundable.", phrase("returns", "No return policy"), False),
    ("en", "{name} is refundable.", phrase("returns", "30-day refund"), True),
    ("en", "Returns: {returns}. See {name}.", phrase("returns", "No return policy"), True),
    ("en", "{name} has free next-day delivery.", phrase("shipping", "Ships in 1 month"), False),
    ("en", "{name} ships fast.", phrase("shipping", "Ships in 1 month"), False),
    ("en", "{name} has free shipping.", phrase("shipping", "Free shipping over $50"), True),
    ("en", "Shipping: {shipping}. See {name}.", phrase("shipping", "Ships in 1 month"), True),
    ("en", "{name} is covered by a warranty.", phrase("warranty", "No warranty"), False),
    ("en", "{name} comes with a warranty.", phrase("warranty", "No warranty"), False),
    ("en", "{name} comes with a warranty.", phrase("warranty", "2 years"), True),
    ("en", "{name} has no warranty.", phrase("warranty", "No warranty"), True),
    ("en", "{name} has a lifetime warranty.", phrase("warranty", "2 years"), False),
    ("en", "Warranty: {warranty}. See {name}.", phrase("warranty", "No warranty"), True),
    ("en", "{name} is made in Italy.", phrase("origin", "China"), False),
    ("en", "{name} is made in Italy.", phrase("origin", "Italy"), True),
    ("en", "{name} is made in {origin}.", phrase("origin", "China"), True),
    ("en", "{name} is for winter.", phrase("season", "summer"), False),
    ("en", "{name} is for summer.", phrase("season", "summer"), True),
    ("en", "{name} is for toddlers.", phrase("audience", "adults"), False),
    ("en", "{name} is for adults.", phrase("audience", "adults"), True),
    ("en", "{name} is for the beach.", phrase("occasion", "office"), False),
    ("en", "{name} is stylish.", phrase("style", "plain"), False), ("en", "{name} is blue.", phrase("color", "red"), False),
    ("en", "{name} is portable.", known("weight", "20 kg"), False),
    ("en", "{name} is pocket-sized.", known("size", "2 m"), False), ("en", "{name} is roomy.", known("capacity", "10 ml"), False),
    ("en", "{name} is brand new.", known("released"), False), ("en", "{name} is brand new.", known("new", True), True),
    ("en", "{name} is in stock.", known("stock", Decimal(0)), False), ("en", "{name} is in stock.", known("stock"), True),
    ("en", "In stock: {stock}. See {name}.", known("stock", Decimal(0)), True),
    ("en", "{name} is recommended by experts.", known("similar_shoppers", Decimal(12), Level.LOW), False),
    ("en", "{name} is recommended by shoppers.", known("similar_shoppers", Decimal(12), Level.LOW), False),
    ("en", "{name} suits your taste.", known("similar_shoppers"), False),
    ("en", "{name} suits your taste.", phrase("source", "store sales"), False),
    ("en", "{name} suits your taste.", phrase("source", "your taste profile"), True),
    ("en", "{name} is gluten-free.", phrase("feature", "sugar-free"), False),
    ("zh", "{name}可以退货。", phrase("returns", "不支持退货"), False),
    ("zh", "退换：{returns}，{name}。", phrase("returns", "不支持退货"), True),
    ("zh", "{name}可以无理由退货。", phrase("returns", "7天退货"), False),
    ("zh", "{name}可以无理由退货。", phrase("returns", "7天无理由退货"), True),
    ("zh", "{name}有质保。", phrase("warranty", "无质保"), False), ("zh", "{name}有质保。", phrase("warranty", "两年质保"), True),
    ("zh", "{name}包邮。", phrase("shipping", "一个月内发货"), False),
    ("zh", "{name}包邮。", phrase("shipping", "全国包邮"), True),
    ("zh", "{name}适合冬季。", phrase("season", "夏季"), False), ("zh", "{name}适合夏季。", phrase("season", "夏季"), True),
    ("zh", "{name}适合宝宝。", phrase("audience", "成人"), False), ("zh", "{name}很便携。", known("weight", "20千克"), False),
    ("zh", "{name}有货。", known("stock", Decimal(0)), False), ("zh", "{name}有货。", known("stock"), True),
    ("zh", "{name}是全新的。", known("released"), False), ("zh", "{name}是专家推荐的。", known("similar_shoppers"), False),
    ("zh", "相似顾客选了{name}。", phrase("source", "门店销售"), False),
    ("zh", "相似顾客选了{name}。", phrase("source", "相似顾客"), True),
    ("zh", "{name}符合您的偏好。", phrase("source", "门店销售"), False),
    ("zh", "{name}是红色的。", phrase("color", "黑色"), False),
]  # fmt: skip


@pytest.mark.parametrize(("lang", "text", "fact", "fine"), CONTENT)
def test_claims_are_borne_out_by_words(lang: Lang, text: str, fact: Fact, fine: bool) -> None:
    """A fact with the right key does not bear a claim out that its words do not make."""
    assert ("claim" not in rules(check(text, [item(fact)], lang=lang))) is fine


PARTS: list[tuple[Lang, str, list[Fact], bool]] = [
    ("en", "{name} features a built-in timer.", [], False), ("en", "{name} has a lid.", [], False),
    ("en", "{name} is dimmable.", [], False), ("en", "{name} is lockable.", [], False),
    ("en", "{name} comes from Japan.", [], False),
    ("en", "{name} is in jet black.", [phrase("color", "matte black")], False),
    ("en", "{name} has a lid.", [phrase("feature", "bamboo lid")], True),
    ("en", "{name} has a timer.", [yes("timer", "has_")], True), ("en", "{name} has no timer.", [no("timer", "has_")], True),
    ("en", "{name} is dimmable.", [yes("dimmable")], True), ("en", "{name} comes from Japan.", [phrase("origin", "Japan")], True),
    ("en", "{name} has a spout.", [], False), ("en", "{name} offers built-in pockets.", [], False),
    ("en", "{name} has a spout.", [phrase("feature", "gooseneck spout")], True),
    ("en", "Is it clear what {name} is? Let us shed light on it.", [], True),
    ("zh", "{name}有收纳袋。", [], False), ("zh", "{name}可上锁。", [], False), ("zh", "{name}产地是日本。", [], False),
    ("zh", "{name}有收纳袋。", [phrase("feature", "收纳袋")], True), ("zh", "{name}可上锁。", [yes("可上锁")], True),
    ("zh", "{name}产地是日本。", [phrase("origin", "日本")], True), ("zh", "想知道答案，看看{name}。", [], True),
]  # fmt: skip


@pytest.mark.parametrize(("lang", "text", "facts", "fine"), PARTS)
def test_parts_and_materials_are_read(lang: Lang, text: str, facts: list[Fact], fine: bool) -> None:
    """A word of the lexicon for a part, a feature, a material or an origin stands in a fact of the product."""
    assert ("claim" not in rules(check(text, [item(*facts)], lang=lang))) is fine


def test_parts_belong_to_the_product_they_are_told_of() -> None:
    """What one product has is not told of the other."""
    two = [item(phrase("feature", "bamboo lid")), item(phrase("feature", "cork base"))]
    assert "claim" not in rules(check("- {1.name} has a lid.\n- {2.name}.", two, "list"))
    assert "claim" in rules(check("- {1.name}.\n- {2.name} has a lid.", two, "list"))


NUMBERS: list[tuple[Lang, str, list[Section], bool]] = [
    ("en", "{name} is one of a kind of mugs; {1.price}.", ITEMS, True),
    ("en", "Here are two picks: {1.name} and {2.name}.", ITEMS, True),
    ("en", "Here are three picks: {1.name} and {2.name}.", ITEMS, False),
    ("en", "{name} comes with a dozen parts.", RATED, False), ("en", "Hundreds of reviews speak for {name}.", RATED, True),
    ("en", "Thousands of reviews speak for {name}.", RATED, False), ("en", "{name} is at half price.", RATED, False),
    ("en", "{name} is at half price.", [item(known("discount", Decimal(50)))], True),
    ("en", "No one sells {name} twice as fast.", RATED, False), ("en", "{name} has a 2 year life.", RATED, False),
    ("en", "{name} has a Ⅷ on it.", RATED, False), ("en", "{name} for $ and more.", RATED, False),
    ("en", "This one, {name}, deserves a second look.", RATED, True), ("zh", "一起看看这款{name}，十分适合一试。", RATED, True),
    ("zh", "{name}现在半价。", RATED, False), ("zh", "{name}便宜三成。", RATED, False),
    ("zh", "{name}已有数百条评价。", RATED, True),
    ("zh", "{name}已有数千条评价。", RATED, False), ("zh", "这两款可以比较：{1.name}和{2.name}。", ITEMS, True),
    ("zh", "这三款可以比较：{1.name}和{2.name}。", ITEMS, False), ("zh", "{name}百搭，价格几十元。", RATED, False),
    ("zh", "{name}用了二十年。", RATED, False), ("zh", "{name}能用十小时。", RATED, False),
    ("zh", "{name}能用半年。", RATED, False),
    ("zh", "{name}装得下五斤米。", RATED, False), ("zh", "{name}有七层。", RATED, False),
    ("zh", "已有百余人选了{name}。", RATED, False),
    ("zh", "{name}排在第三。", RATED, False), ("zh", "第一次看到{name}，一下就记住了。", RATED, True),
    ("en", "{name} will be around for decades.", RATED, False), ("en", "{name} lasts a century.", RATED, False),
    ("en", "{name} comes as a pair of shoes.", RATED, False), ("en", "{name} takes third place.", RATED, False),
    ("en", "{name} has zero flaws.", RATED, False), ("en", "Both are here, see {name}.", RATED, False),
    ("en", "Both {1.name} and {2.name} are here.", ITEMS, True), ("en", "At a second glance, {name} is the one.", RATED, True),
    ("en", "{name} pairs with {also_bought}.", RATED, True),
]  # fmt: skip


@pytest.mark.parametrize(("lang", "text", "sections", "fine"), NUMBERS)
def test_number_words_need_a_fact(lang: Lang, text: str, sections: list[Section], fine: bool) -> None:
    """Numbers in words are borne out by a value or a count of facts; digits never stand outside a slot."""
    text = text.replace("{name}", "{1.name}") if len(sections) > 1 else text
    assert ("number" not in rules(check(text, sections, "list" if len(sections) > 1 else "reason", lang))) is fine


def test_an_empty_text_is_refused() -> None:
    """Nothing to show is a violation, not an error."""
    prompt = slots.bind(Request("reason", "en", (item(),)))
    assert rules(grounding.check([], prompt, tasks.get("reason"))) == {"open"}


def test_required_facts() -> None:
    """The name, further facts, one of several, one of each section, all of a section."""
    assert rules(check("It costs {price}.", [item(known("price"))])) == {"missing"}
    assert rules(check("Have a look at {name}.", [item(known("price"))])) == {"missing"}
    assert rules(check("Have a look at {name}.", [item()])) == set()
    assert rules(check("{name} is trending.", [item(known("trending"), known("price"))])) == set()
    personal = replace(tasks.get("personal"), any_of=("likes", "need", "budget", "liked", "bought", "viewed", "match"))
    joint = replace(tasks.get("joint"), every=("by",))
    review = replace(tasks.get("review"), whole=("ratings",))
    shopper = Section("shopper", (known("likes", "oak"),))
    cases = [
        (personal, [item(known("price")), shopper], "{name} costs {price}.", {"missing"}),
        (personal, [item(known("price")), shopper], "You like {likes}, so here is {name}.", set()),
        (personal, [item(known("price"))], "{name} costs {price}.", set()),
        (joint, SOURCES, "{name}. {similar_shoppers} of similar shoppers chose it, says {source}.", {"missing"}),
        (joint, SOURCES, "{name}. {similar_shoppers} of similar shoppers chose it. {sales} sold.", set()),
        (review, ASPECTS, "I like the {good} of {name}. The {bad} let me down.", {"missing"}),
        (review, ASPECTS, "I like the {good} of {name}. The {bad} let me down. The {okay} is fair.", set()),
    ]
    for task, sections, text, broken in cases:
        prompt = slots.bind(Request(task.name, "en", tuple(sections)))
        filled = patterns.fill(patterns.parse(text), patterns.View(prompt))
        assert filled is not None
        assert rules(grounding.check(filled, prompt, task)) == broken, text


def test_choices_are_checked_as_choices() -> None:
    """A category path is one of the shop's, and makes no claim."""
    prompt = slots.bind(Request("category", "en", (Section("item", (known("title_words", "mug"),)),), ("Home > Mugs",)))
    assert grounding.check(["Home > Mugs"], prompt, tasks.get("category")).ok
    assert not grounding.check(["Home > Cups"], prompt, tasks.get("category")).ok


PLAIN = [
    item(known("price", Decimal(20), Level.MID), known("rating", Decimal("3.9"), Level.MID), known("feature", "rounded handle"))
]
UNGROUNDED: dict[Lang, str] = {
    "en": """Everyone is talking about {name}, now {price}.
        {name} keeps drinks hot for hours, with {feature}.
        {name}, rated {rating}, never disappoints.
        {name} will last a lifetime, with {feature}.
        {name} comes with a lid and {feature}.
        {name} is great for coffee, with {feature}.
        {name} has an impressive {rating} rating.
        {name} makes a lovely gift at {price}.""",
    "zh": """{name}深受大家喜爱，售价{price}。
        {name}手感很好，带有{feature}。
        {name}耐高温，售价{price}。
        {name}很火，售价{price}。
        {name}是送礼佳品，售价{price}。
        {name}附赠杯盖，售价{price}。""",
}
SOFT: dict[Lang, str] = {
    "en": """{name} is an option to consider at {price}.
        {name} comes with {feature}, so see if it is for you.
        If that is what you are after, {name} costs {price}.
        {name} stands out for {feature}.""",
    "zh": """{name}带有{feature}，喜欢的话可以留意。
        合不合适，看看{name}的{feature}再决定。
        {name}顾客评分{rating}，可以先看看评价。
        看重{feature}的话，可以看看{name}。""",
}


@pytest.mark.parametrize("lang", LANGS)
def test_puffery_fails_and_soft_phrasing_passes(lang: Lang) -> None:
    """Praise that no fact bears out is refused; phrasing that claims nothing is not."""
    for text in UNGROUNDED[lang].splitlines():
        assert "claim" in rules(check(text, PLAIN, lang=lang)), text
    for text in SOFT[lang].splitlines():
        assert rules(check(text, PLAIN, lang=lang)) == set(), text
