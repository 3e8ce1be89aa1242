"""The command at its boundary: exit codes, one line an error, and what `explain` says of a catalogue. No model is loaded."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edgegen import catalog, cli
from edgegen.commands import _shared, evaluate, serve
from edgegen.domain import Request, Section
from edgegen.errors import DataError
from edgegen.explain import Explainer, ExplainOptions, Explanation, Submit

ROWS: list[dict[str, Any]] = [
    {"id": "a", "title": "Oak Tray", "category": "tray", "price": "abc", "rating": "97", "sku": "X1"},
    {"id": "b", "title": "Pine Tray", "category": "tray", "price": 20, "rating": "98", "sku": ""},
    {"id": "c", "title": "Fen", "category": None, "price": 30, "features": ["a", "b", "c", "d", "e"]},
]


class Picky(Explainer):
    """Explains from templates, and finds nothing to say about some products."""

    refused: frozenset[str] = frozenset()

    def explain(self, request: Request, options: ExplainOptions | None = None, submit: Submit | None = None) -> Explanation:
        """A text, or a DataError."""
        name = request.sections[0].get("name")
        if name and name.value in self.refused:
            raise DataError(f"Nothing can be said about {name.value}.")
        return super().explain(request, options, submit)


@pytest.fixture(autouse=True)
def explainer(monkeypatch: pytest.MonkeyPatch) -> type[Picky]:
    """Templates in place of the pack; the class, whose `refused` a test may set."""

    @contextmanager
    def opened(*args: object) -> Iterator[Explainer]:
        yield Picky(None)

    monkeypatch.setattr(_shared, "explainer", opened)
    monkeypatch.setattr(Picky, "refused", frozenset())
    return Picky


@pytest.fixture
def products(tmp_path: Path) -> str:
    """A catalogue with some doubtful cells."""
    path = tmp_path / "products.json"
    path.write_text(json.dumps(ROWS), "utf-8")
    return str(path)


def lines(text: str) -> list[str]:
    """The lines of an output."""
    return text.strip().splitlines()


# --- what explain says


def test_columns_that_are_left_out_are_named(products: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each column and reason; empty cells and what exceeds a number go without saying."""
    assert cli.main(["explain", products]) == 0
    assert lines(capsys.readouterr().err) == [
        "column 'price' is left out of 1 product: is not an amount of money",
        "column 'rating' is left out of 2 products: is not a rating from 0 to 5; write 8.6/10 where the scale is another",
        "column 'sku' is left out of 1 product: is not something a shopper asks about",
    ]


def test_reasons_that_differ_in_a_number_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A reason that quotes the product's own figures does not make a line a product."""
    path = tmp_path / "a.csv"
    path.write_text("name,price,was_price,discount\nFen,5,10,20\nTarn,5,20,20\n", "utf-8")
    assert cli.main(["explain", str(path)]) == 0
    assert lines(capsys.readouterr().err) == [
        "column 'discount' is left out of 2 products: for example the two prices make it 50%"
    ]


def test_the_sample_needs_no_words(capsys: pytest.CaptureFixture[str]) -> None:
    """What the sample leaves out is nobody's business."""
    assert cli.main(["explain", "--limit", "1"]) == 0
    assert capsys.readouterr().err == ""


# --- one bad product


@pytest.mark.parametrize("extra", [[], ["--json"], ["--out", "texts.jsonl"]])
def test_one_bad_product_does_not_stop_the_others(
    products: str, extra: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    explainer: type[Picky],
) -> None:  # fmt: skip
    """It is named with the reason; the exit code is 3 only where no text was made."""
    monkeypatch.chdir(tmp_path)
    explainer.refused = frozenset({"Pine Tray"})
    assert cli.main(["explain", products, *extra]) == 0
    out, err = capsys.readouterr()
    written = Path("texts.jsonl").read_text("utf-8") if "--out" in extra else out
    assert [name in written for name in ("Oak Tray", "Pine Tray", "Fen")] == [True, False, True]
    assert "b is left out: Nothing can be said about Pine Tray." in lines(err)
    Path("texts.jsonl").unlink(missing_ok=True)
    assert cli.main(["explain", products, *extra, "--id", "b"]) == 3


def test_a_product_without_a_category_does_not_stop_a_guide(products: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A task that needs a category is written of the products that have one; where none has, that is the error."""
    rest = [{"id": "d", "title": "Ash"}, {"id": "e", "title": "Elm"}]
    Path(products).write_text(json.dumps([*ROWS, *rest]), "utf-8")
    assert cli.main(["explain", products, "--task", "guide"]) == 0
    out, err = capsys.readouterr()
    assert "Oak Tray" in out and "Ash" not in out
    assert "c, d, e left out: Task 'guide' needs products with a category." in err
    Path(products).write_text(json.dumps(rest), "utf-8")
    assert cli.main(["explain", products, "--task", "guide"]) == 3
    assert len(lines(capsys.readouterr().err)) == 1


def test_resume_with_another_task(products: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The texts of another task are added to the file."""
    out = str(tmp_path / "texts.csv")
    for task in ("reason", "product", "product"):
        assert cli.main(["explain", products, "--task", task, "--out", out, "--resume"]) == 0
    assert "3 of 3 are in" in capsys.readouterr().err
    assert Path(out).read_bytes().count(b"\r\n") == 7


# --- options


@pytest.mark.parametrize(
    ("extra", "code", "message"),
    [
        (["--limit", "0"], 2, "--limit must be at least 1, got 0"),
        (["--limit", "-1"], 2, "--limit must be at least 1, got -1"),
        (["--limit", "1", "--out", "nodir/x.jsonl"], 7, "there is no folder nodir. Create it"),
    ],
)
def test_errors_are_one_line(
    extra: list[str], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each says what is wrong and what to do."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(["explain", *extra]) == code
    out, err = capsys.readouterr()
    assert message in err and len(lines(err)) == 1 and out == ""


def test_an_evaluation_has_at_least_one_text(products: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`evaluate --limit 0` is refused."""
    assert cli.main(["evaluate", "--catalogue", products, "--limit", "0"]) == 2
    assert "--limit must be at least 1, got 0" in capsys.readouterr().err


def test_a_pack_that_is_not_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It is exit code 4, as any file that is not there."""
    assert cli.main(["pack", "verify", "nowhere"]) == 4
    assert "There is no pack at nowhere" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["explain", "evaluate"])
def test_currency_is_the_budgets_too(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, products: str) -> None:
    """A bare budget is in the currency of the shop."""
    asked: list[str | None] = []

    def profiles(path: object, lang: str, currency: str | None = None) -> dict[str, Section]:
        asked.append(currency)
        return {}

    monkeypatch.setattr(catalog, "shoppers", profiles)
    arguments = ["--task", "personal", products] if command == "explain" else ["--catalogue", products, "--langs", "en"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "evaluate", lambda *args: pytest.fail("no shopper, no case"))
        cli.main([command, *arguments, "--currency", "EUR", *(["--tasks", "personal"] if command == "evaluate" else [])])
    assert asked == ["EUR"]


# --- the output


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_output_is_one_line(unbuffered: str) -> None:
    """Nothing can be written: exit code 7 and no traceback, neither in the command nor when Python ends."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "edgegen", "tasks"], stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        )  # fmt: skip
    assert done.returncode == 7, done.stderr
    assert lines(done.stderr) == [
        "edgegen: The output cannot be written: No space left on device. Free some space, or send it elsewhere."
    ]


def test_a_closed_pipe_is_no_error() -> None:
    """`edgegen tasks | head -0` ends quietly."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "edgegen", "tasks"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_closed_streams_are_no_error() -> None:
    """`edgegen tasks >&- 2>&-` writes nowhere."""
    done = subprocess.run(["/bin/sh", "-c", f"'{sys.executable}' -m edgegen tasks >&- 2>&-"], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_other_refusals_of_the_system_name_the_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An error that no command expected is still one line."""

    def refuse(args: object) -> int:
        raise PermissionError(13, "Permission denied", "report.json")

    monkeypatch.setattr("edgegen.commands.tasks.run", refuse)
    assert cli.main(["tasks"]) == 7
    assert lines(capsys.readouterr().err) == [
        "edgegen: report.json: Permission denied. Check the path, your rights to it and the space that is left."
    ]


def test_serve_says_what_its_catalogue_loses(products: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The same lines as `explain`; the sample needs no words here either."""
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    serve.shops(parser.parse_args(["--catalogue", products]), "en")
    said = lines(capsys.readouterr().err)
    assert said[0] == "column 'price' is left out of 1 product: is not an amount of money" and len(said) == 3
    serve.shops(parser.parse_args([]), "en")
    assert capsys.readouterr().err == ""
