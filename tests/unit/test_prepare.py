"""`edgegen train prepare`: files of every kind become pairs that training reads, or one clear error and nothing else."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgegen import slots, tasks
from edgegen.cli import main
from edgegen.errors import DataError, EdgegenError, MappingError, NotFoundError, OptionError, UsageError
from edgegen.train import pairs
from edgegen.train.prepare import duplicates, splits
from edgegen.train.prepare.options import PrepareOptions
from edgegen.train.prepare.run import Prepared, prepare

ALL = PrepareOptions(valid=0, test=0)
MR = (
    "mr,ref,baseline\n"
    "inform(name=aven 1;type=lamp;hdmiport=2;hasusbport=true),aven 1 is a lamp with 2 hdmi ports and a usb port .,x\n"
    "inform(name=bolt 2;type=lamp;hdmiport=3;hasusbport=false),the bolt 2 lamp has 3 hdmi ports and no usb ports .,x\n"
    "inform(name=bolt 2;type=lamp;hdmiport=3;hasusbport=false),the bolt 2 lamp has 3 hdmi ports and a usb port .,x\n"
    "inform_count(count=4;type=lamp;hdmiport=dontcare),there are 4 lamps with any number of hdmi ports .,x\n"
    "inform(name=cove 3;type=lamp;hdmiport=2),name cove 3 type lamp hdmiport 2,x\n"
    '"?compare(name=aven 1;hdmiport=2;name=bolt 2;hdmiport=3)","the bolt 2 has 3 hdmi ports , the aven 1 has 2 hdmi ports .",x\n'
)


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Prepared]:
    """Prepares a file's content."""

    def run(content: str | bytes, name: str = "data.csv", options: PrepareOptions = ALL) -> Prepared:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return prepare({"train": path}, tmp_path / "out", options, lambda _: None)

    return run


def texts_of(folder: Path, split: str = "train") -> list[str]:
    """A split's texts as a reader sees them."""
    found = []
    for pair in pairs.read(folder / f"{split}.jsonl"):
        prompt = tasks.get(pair.request.task).prompt(pair.request)
        found.append(slots.render(slots.parse(pair.text, prompt), pair.request.lang))
    return found


def reasons(result: Prepared) -> dict[str, int]:
    return {reason["reason"]: reason["texts"] for reason in result.report["reasons"]}


def test_meaning_representations(made: Callable[..., Prepared], tmp_path: Path) -> None:
    """True texts are kept with slots and can be put together again; a denied fact and a dump of the data are not."""
    result = made(MR)
    assert result.report["kind"] == "mr"
    assert reasons(result) == {"contradiction": 1, "restates the data": 1}
    kept = list(pairs.read(tmp_path / "out" / "train.jsonl"))
    assert [text.lower() for text in texts_of(tmp_path / "out")] == [pair.original for pair in kept]
    assert all(not any(c.isdigit() for c in slots._MARK.sub("", pair.text)) for pair in kept)
    assert result.report["splits"]["train"]["exact"] == 1


def test_the_model_sees_the_act_and_what_is_told(made: Callable[..., Prepared], tmp_path: Path) -> None:
    """What training reads has the act first, then the facts in the order of the text."""
    from edgegen import grounding, selection

    made(MR)
    pair = next(p for p in pairs.read(tmp_path / "out" / "train.jsonl") if "<|v59|>" in p.text)
    task = tasks.get("tell")
    prompt = task.prompt(pair.request)
    segments = slots.parse(pair.text, prompt)
    plan = selection.told(segments, pair.request, grounding.claimed(segments, prompt, task), task)
    assert [[fact.key for fact in facts] for facts in plan] == [["act", "hdmi_port"], ["products", "category"]]


def test_columns(made: Callable[..., Prepared], tmp_path: Path) -> None:
    """A product's columns are its facts; a sentence that none bears out is cut, a wrong number sets the text aside."""
    texts = {
        "Aven Kettle": ("$89", "steel", "Aven Kettle is steel. It costs 89 dollars."),
        "Bolt Mug": ("$12", "glass", "Bolt Mug is made of glass. It is a bestseller."),
        "Cove Pan": ("$30", "iron", "Cove Pan, now only $25, is iron."),
        "Dell Pot": ("$30", "clay", "Dell Pot: write to me@shop.example about it."),
    }
    columns = ("price", "material", "text")
    rows = [{"title": name, **dict(zip(columns, cells, strict=True))} for name, cells in texts.items()]
    result = made("\n".join(map(json.dumps, rows)), "data.jsonl")
    assert result.report["kind"] == "columns"
    assert texts_of(tmp_path / "out") == ["Aven Kettle is steel. It costs $89.", "Bolt Mug is made of glass."]
    assert reasons(result) == {"number": 1, "personal data": 1}
    assert "shop.example" not in "".join(path.read_text() for path in (tmp_path / "out").iterdir())


def test_a_text_that_lost_its_first_sentence_begins_anew(made: Callable[..., Prepared], tmp_path: Path) -> None:
    """No word joins it to what is gone."""
    made('title,text,material\nAven,"It is a bestseller. Also, Aven is steel.",steel\nBolt,Bolt is glass.,glass\n')
    assert texts_of(tmp_path / "out") == ["Aven is steel.", "Bolt is glass."]


def test_columns_can_be_named(made: Callable[..., Prepared], tmp_path: Path) -> None:
    """`--map` says which column is the text and which a fact."""
    options = PrepareOptions(valid=0, test=0, columns={"text": "slogan", "name": "what"})
    made(
        "what;slogan;feature\nAven Kettle;Aven Kettle has a wide spout.;wide spout\nBolt Mug;Bolt Mug has a lid.;lid\n",
        options=options,
    )
    assert {p.request.task for p in pairs.read(tmp_path / "out" / "train.jsonl")} == {"product"}


def test_attribute_strings(made: Callable[..., Prepared], tmp_path: Path) -> None:
    """Chinese attributes; the kind of thing steers, the rest is told. A placeholder's sentence goes."""
    rows = [
        {"content": "类型#上衣*材质#牛仔布*图案#刺绣", "summary": "这件上衣采用牛仔布。衣身饰有刺绣。"},
        {"content": "类型#裙*材质#纯棉", "summary": "裙身用了<UNK>，好看。这条裙子用的是纯棉。"},
    ]
    result = made("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "data.jsonl")
    assert result.report["kind"] == "attributes"
    assert texts_of(tmp_path / "out") == ["这件上衣采用牛仔布。衣身饰有刺绣。", "这条裙子用的是纯棉。"]


def test_lines_with_a_catalogue(made: Callable[..., Prepared], tmp_path: Path) -> None:
    """Plain reasons get the facts of the product that they name."""
    shop = tmp_path / "shop.csv"
    shop.write_text("id,title,price\n1,Aven Kettle,$89\n2,Bolt Mug,$12\n", "utf-8")
    options = PrepareOptions(valid=0, test=0, catalogue=shop, task="reason")
    result = made("Aven Kettle costs eighty-nine dollars.\nTake Bolt Mug for $12.\nNothing here.\n", "reasons.txt", options)
    assert texts_of(tmp_path / "out") == ["Aven Kettle costs $89.", "Take Bolt Mug for $12."]
    assert result.report["rows"] == {"read": 2, "unread": 1}


def test_parquet(tmp_path: Path) -> None:
    """The same rows from Parquet; half a file is one error."""
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "data.parquet"
    rows = [line.split(",") for line in ("Aven Kettle,Aven Kettle is steel.,steel", "Bolt Mug,Bolt Mug is glass.,glass")]
    parquet.write_table(arrow.table(dict(zip(("title", "text", "material"), zip(*rows, strict=True), strict=True))), path)
    prepare({"train": path}, tmp_path / "out", ALL, lambda _: None)
    assert texts_of(tmp_path / "out") == ["Aven Kettle is steel.", "Bolt Mug is glass."]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="is not a whole Parquet file"):
        prepare({"train": path}, tmp_path / "half", ALL, lambda _: None)
    assert not (tmp_path / "half").exists()


def test_what_was_prepared_can_be_prepared_again(made: Callable[..., Prepared], tmp_path: Path) -> None:
    """Pairs are a kind of their own, and nothing changes in them the second time."""
    made(MR)
    first = (tmp_path / "out" / "train.jsonl").read_text()
    again = prepare({"train": tmp_path / "out" / "train.jsonl"}, tmp_path / "again", ALL, lambda _: None)
    assert again.report["kind"] == "pairs"
    assert [json.loads(line)["text"] for line in first.splitlines()] == [
        pair.text for pair in pairs.read(tmp_path / "again" / "train.jsonl")
    ]  # fmt: skip


def test_copies_of_pairs_are_left_out(made: Callable[..., Prepared], tmp_path: Path) -> None:
    """What a model or a rule has changed must not measure, so it is no text of the shop's own."""
    made(MR)
    first = tmp_path / "out" / "train.jsonl"
    own = list(pairs.read(first))
    pairs.write(first, [*own, *(replace(pair, copy_of=pair.digest) for pair in own)])
    again = prepare({"train": first}, tmp_path / "again", ALL, lambda _: None)
    assert len(list(pairs.read(tmp_path / "again" / "train.jsonl"))) == len(own)
    assert f"Row {len(own) + 1}: a changed copy" in json.dumps(again.report)


def test_duplicates_go(made: Callable[..., Prepared]) -> None:
    """The same text on the same facts, and nearly the same; the same text on other facts stays."""
    said = "is made of steel and you can see it on the shelf by the door of the shop"
    texts = (f"Aven 1 {said}.", f"aven 1  {said}!", f"Aven 1 {said} today.", f"Aven 2 {said}.")
    result = made("title,text,material\n" + "".join(f"{text[:6].capitalize()},{text},steel\n" for text in texts))
    assert reasons(result) == {"duplicate": 1, "near duplicate": 1}


def test_splits_have_no_product_in_common(made: Callable[..., Prepared], tmp_path: Path) -> None:
    """Texts of one product stay together, and more data move none."""
    rows = "".join(f"Aven {i},Aven {i} is steel{end},steel\n" for i in range(120) for end in (".", ", and so is its lid."))
    made("title,text,material\n" + rows, options=PrepareOptions(valid=0.2, test=0.2))
    found = {
        split: {str(p.request.sections[0].facts[0].value) for p in pairs.read(tmp_path / "out" / f"{split}.jsonl")}
        for split in splits.SPLITS
    }
    assert all(found.values())
    assert not found["train"] & found["valid"] and not found["train"] & found["test"] and not found["valid"] & found["test"]
    groups = [(f"p{i}",) for i in range(200)]
    assert splits.place(groups[:100], 0.1, 0.1, 0) == splits.place(groups, 0.1, 0.1, 0)[:100]


def test_a_chain_of_products_stays_together() -> None:
    """A comparison ties two products, and each of them to its other texts."""
    groups = [("a",), ("a", "b"), ("b", "c"), ("c",)]
    assert len(set(splits.place(groups, 0.3, 0.3, 1))) == 1


def test_given_files_are_kept_and_what_they_share_is_told(tmp_path: Path) -> None:
    """Nothing moves between files; facts and texts in two of them are counted."""
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_text(MR, "utf-8")
    test.write_text("\n".join(MR.splitlines()[:4]) + "\n", "utf-8")
    result = prepare({"train": train, "test": test}, tmp_path / "out", ALL, lambda _: None)
    assert set(result.outcomes) == {"train", "test"}
    assert {leak["what"]: leak["pairs"] for leak in result.report["leaks"]} == {"facts": 3, "text and facts": 2, "product": 3}
    originals = [pair.original for pair in pairs.read(tmp_path / "out" / "test.jsonl")]
    assert len(originals) == 3, "a model is measured against all texts that people wrote"


@pytest.mark.parametrize(
    ("content", "name", "error", "says"),
    [
        ("", "data.csv", DataError, "is empty"),
        ("", "data.txt", DataError, "is empty"),
        ("a,b\n1,2\n", "data.csv", MappingError, "--map text=COLUMN"),
        ("mr,ref\n", "data.csv", DataError, "no row|holds no"),
        ("mr,ref\ninform(name=aven 1),aven 1 is here .\n", "data.csv", DataError, "holds one text"),
        ("title,text\nAven,caf\xe9\n".encode("latin-1"), "data.csv", DataError, "is not UTF-8"),
        ("title,text\nAven,Bolt is a bestseller.\nBolt,Aven is a bestseller.\n", "data.csv", DataError, "No text of .* is true"),
        (b"PAR1" + b"\0" * 20, "data.parquet", EdgegenError, "Parquet"),
        ("ref,note\nA lamp.,x\nB lamp.,y\n", "data.csv", DataError, "no column gives a fact|No text"),
    ],
)  # fmt: skip
def test_bad_input_is_one_error(
    made: Callable[..., Prepared], tmp_path: Path, content: str | bytes, name: str, error: type[Exception], says: str
) -> None:
    """It says what to do, and nothing is written."""
    with pytest.raises(error, match=says):
        made(content, name)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_somebody_else_is_left_alone(made: Callable[..., Prepared], tmp_path: Path) -> None:
    """One's own output is replaced, other files are not."""
    made(MR)
    made(MR)
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"holds thesis\.txt"):
        made(MR)
    assert (tmp_path / "out" / "train.jsonl").is_file()


def test_pairs_of_ones_own_are_not_written_over(made: Callable[..., Prepared], tmp_path: Path) -> None:
    """Neither files that have the names of ours, nor the data themselves, in a folder that a preparation made or not."""
    own = tmp_path / "own" / "test.jsonl"
    own.parent.mkdir()
    own.write_text("mine")
    with pytest.raises(UsageError, match=r"holds test\.jsonl, which no preparation wrote"):
        prepare({"train": tmp_path / "none.csv"}, own.parent, PrepareOptions(), lambda _: None)
    made(MR)
    with pytest.raises(UsageError, match=r"train\.jsonl lies in .*out, which would be written anew"):
        prepare({"train": tmp_path / "out" / "train.jsonl"}, tmp_path / "out", PrepareOptions(), lambda _: None)
    assert own.read_text() == "mine" and (tmp_path / "out" / "train.jsonl").is_file()


def test_options_check_themselves() -> None:
    """Each says its range."""
    with pytest.raises(OptionError, match="valid must be in"):
        PrepareOptions(valid=0.9)
    with pytest.raises(UsageError, match="Unknown kind 'xml'"):
        PrepareOptions(kind="xml")
    with pytest.raises(UsageError, match="Unknown unsupported"):
        PrepareOptions(unsupported="pray")


def test_missing_file(tmp_path: Path) -> None:
    """It is named."""
    with pytest.raises(NotFoundError, match=r"no file .*none\.csv"):
        prepare({"train": tmp_path / "none.csv"}, tmp_path / "out", ALL, lambda _: None)


def test_command_and_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table goes to the terminal; the page is whole, escaped and asks nothing of the network."""
    path = tmp_path / "data.csv"
    path.write_text(MR.replace("any number of", "<b onclick=x>any</b> number of"), "utf-8")
    assert main(["train", "prepare", "--data", str(path), "--out", str(tmp_path / "out"), "--valid", "0", "--test", "0"]) == 0
    assert "6 texts read as mr" in capsys.readouterr().out
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.rstrip().endswith("</html>") and "<script" not in page and "http" not in page and "onclick=x>" not in page
    assert main(["train", "prepare", "--data", str(path), "--out", str(tmp_path / "out"), "--map", "text"]) == 2


def test_near_duplicates_are_those_of_the_plain_comparison() -> None:
    """The rarest runs find what comparing each with each finds."""
    rng = random.Random(3)
    texts = [" ".join(rng.choices("abcdefgh", k=12)) for _ in range(40)]
    texts += [f"{text} {rng.choice('abcxyz')}" for text in texts]
    rng.shuffle(texts)

    def runs(text: str) -> set[tuple[str, ...]]:
        words = text.split()
        return set(zip(words, words[1:], words[2:], strict=False))

    kept: list[str] = []
    for text in texts:
        if not any(len(runs(text) & runs(other)) >= 0.9 * len(runs(text) | runs(other)) for other in kept):
            kept.append(text)
    found = list(duplicates.repeated([("", text) for text in texts], 0.9))
    assert [text for text, why in zip(texts, found, strict=True) if why is None] == kept
    assert None in found and "near duplicate" in found


def test_what_reads_otherwise_is_listed(made: Callable[..., Prepared]) -> None:
    """An article that agrees with its value is a repair; what is as it was is counted."""
    rows = "aven 1 is an cheap lamp .", "bolt 2 is a cheap lamp ."
    split = made("mr,ref\n" + "\n".join(f"inform(name={r[:6]};type=lamp;pricerange=cheap),{r}" for r in rows)).report["splits"][
        "train"
    ]
    assert (split["exact"], split["exact_or_listed"]) == (0.5, 1)
