"""`edgegen explain` as a user runs it, on the bundled pack."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROWS = [
    {"title": "Aero Grinder 200", "category": "coffee grinder", "price": 59.9, "rating": 4.7, "material": "stainless steel"},
    {"title": "Pour Kettle", "category": "kettle", "price": 35, "rating": 4.1, "waterproof": False, "handle": "cork grip"},
    {"title": "Oak Tray", "category": "tray", "price": 19.5, "discountPercentage": 25, "color": "natural"},
]


def edgegen(*args: object, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    command = [sys.executable, "-m", "edgegen", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, input=stdin, check=False)


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    """A small catalogue with columns of another shop's making."""
    path = tmp_path / "products.json"
    path.write_text(json.dumps({"products": ROWS}), encoding="utf-8")
    return path


def test_sample_in_both_languages() -> None:
    """Without a file the sample catalogue is explained."""
    for lang in ("en", "zh"):
        done = edgegen("explain", "--lang", lang, "--limit", 3)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.strip().splitlines()) >= 3


def test_records_say_where_claims_come_from(catalogue: Path) -> None:
    """--json gives text, source, claims with facts, and timings; the same seed gives the same text."""
    runs = [edgegen("explain", catalogue, "--task", "product", "--json", "--seed", 3, "--threads", 1) for _ in range(2)]
    records = [[json.loads(line) for line in run.stdout.splitlines()] for run in runs]
    assert [r["text"] for r in records[0]] == [r["text"] for r in records[1]]
    for record, row in zip(records[0], ROWS, strict=True):
        assert row["title"] in record["text"]
        assert record["source"] in ("model", "template")
        assert {"section": 0, "key": "name"} in [fact for claim in record["claims"] for fact in claim["facts"]]
        assert record["timings"]["total_s"] > 0


def test_stdin_and_mapping() -> None:
    """A catalogue may come from stdin, a column may be named."""
    done = edgegen("explain", "-", "--format", "csv", "--map", "name=headline", stdin="headline,price\nOak Tray,19.5\n")
    assert done.returncode == 0, done.stderr
    assert "Oak Tray" in done.stdout


def test_file_is_resumed(catalogue: Path, tmp_path: Path) -> None:
    """A cut result file is completed, each product once; without --resume it is not touched."""
    out = tmp_path / "texts.jsonl"
    assert edgegen("explain", catalogue, "--out", out).returncode == 0
    lines = out.read_text("utf-8").splitlines(keepends=True)
    out.write_text(lines[0] + lines[1][:20], encoding="utf-8")
    assert edgegen("explain", catalogue, "--out", out).returncode == 2
    assert edgegen("explain", catalogue, "--out", out, "--resume").returncode == 0
    assert sorted(json.loads(line)["id"] for line in out.read_text("utf-8").splitlines()) == sorted(
        json.loads(x)["id"] for x in lines
    )


def test_full_disk(catalogue: Path, tmp_path: Path) -> None:
    """Where no space is left, one line says so; what was written is whole, and --resume completes it."""
    out = tmp_path / "texts.jsonl"
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700)); "
    code = limit + "from edgegen.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "explain", str(catalogue), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    assert "--resume" in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert edgegen("explain", catalogue, "--out", out, "--resume").returncode == 0
    assert len([json.loads(line) for line in out.read_text("utf-8").splitlines()]) == 3


def test_csv_results(catalogue: Path, tmp_path: Path) -> None:
    """Results can be CSV."""
    out = tmp_path / "texts.csv"
    assert edgegen("explain", catalogue, "--out", out).returncode == 0
    with out.open(encoding="utf-8", newline="") as file:
        assert [bool(row["text"]) for row in csv.DictReader(file)] == [True] * 3
    whole = out.read_bytes()
    out.write_bytes(whole[:-20])
    assert edgegen("explain", catalogue, "--out", out, "--resume").returncode == 0
    assert out.read_bytes().splitlines()[:3] == whole.splitlines()[:3]
    assert edgegen("explain", catalogue, "--task", "product", "--out", out, "--resume").returncode == 0
    with out.open(encoding="utf-8", newline="") as file:
        assert [row["task"] for row in csv.DictReader(file)] == ["reason"] * 3 + ["product"] * 3


def test_shopper_query_and_tree(catalogue: Path) -> None:
    """Tasks that need more than a product get it from options or the catalogue."""
    for extra in (["--task", "personal"], ["--task", "search", "--query", "coffee at home"], ["--task", "category"]):
        done = edgegen("explain", catalogue, *extra)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()


@pytest.mark.parametrize(
    ("args", "text", "code", "message"),
    [
        (["missing.json"], None, 4, "missing.json"),
        (["-", "--task", "nope"], "[]", 2, "Unknown task 'nope'"),
        (["-", "--task", "tell"], "[]", 2, "Unknown task 'tell'"),
        (["-", "--task", "search"], '[{"name": "x"}, {"name": "y"}]', 2, "--query"),
        (["-", "--task", "guide"], '[{"name": "x"}, {"name": "y"}]', 3, "--map category="),
        (["-", "--lang", "fr"], "[]", 2, "Unknown language 'fr'"),
        (["-", "--format", "json"], "[]", 3, "no product"),
        (["-", "--format", "json"], '[{"colour": "red"}]', 3, "--map name="),
        (["-", "--map", "name=nope", "--format", "json"], '[{"title": "x"}]', 3, "nope"),
        (["--pack", "nowhere"], None, 4, "nowhere"),
        (["--n", "99"], None, 2, "n must be in"),
        (["--threads", "0"], None, 2, "--threads must be at least 1, got 0"),
        (["--id", "nope"], None, 4, "no product 'nope'"),
        (["--out", "x.txt"], None, 2, ".jsonl or .csv"),
        (["--limit", "0"], None, 2, "--limit must be at least 1"),
        (["--limit", "1", "--out", "nodir/x.jsonl"], None, 7, "there is no folder nodir. Create it"),
    ],
)
def test_errors_are_one_line(args: list[str], text: str | None, code: int, message: str) -> None:
    """Each mistake has its exit code and one line that says what to do."""
    done = edgegen("explain", *args, stdin=text)
    assert (done.returncode, message.casefold() in done.stderr.casefold()) == (code, True), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


def test_good_rows_are_kept(tmp_path: Path) -> None:
    """A broken line is named, the others are explained."""
    path = tmp_path / "rows.jsonl"
    path.write_text('{"title": "Oak Tray", "price": 5}\n{broken\n{"title": "Pine Tray", "price": 6}\n', encoding="utf-8")
    done = edgegen("explain", path)
    assert done.returncode == 0
    assert "left out: " in done.stderr
    assert "Pine Tray" in done.stdout


def test_damaged_pack_is_refused(tmp_path: Path) -> None:
    """One flipped byte in a pack is found before anything is loaded."""
    from edgegen import pack

    source = pack.bundled()
    for file in source.iterdir():
        data = bytearray(file.read_bytes())
        if file.suffix == ".gguf":
            data[len(data) // 2] ^= 1
        (tmp_path / file.name).write_bytes(data)
    done = edgegen("explain", "--pack", tmp_path, "--limit", 1)
    assert done.returncode == 5
    assert "model.gguf" in done.stderr


def test_tasks_and_doctor() -> None:
    """`tasks` lists ten; `doctor` names the pack and the setting."""
    assert len(edgegen("tasks").stdout.splitlines()) == 10
    done = edgegen("doctor")
    assert done.returncode == 0, done.stdout
    assert "bundled" in done.stdout
    assert "setting" in done.stdout


def test_help_imports_nothing_heavy() -> None:
    """`edgegen --help` loads neither llama.cpp nor the training side."""
    code = (
        "import sys, edgegen.cli\ntry:\n    edgegen.cli.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('torch', 'transformers', 'peft', 'gguf', 'llama_cpp', 'numpy', 'textual') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_name_alone_gets_the_template(tmp_path: Path) -> None:
    """No text of the training tells of a name and nothing else."""
    path = tmp_path / "bare.json"
    path.write_text('[{"name": "Oak Shelf"}]', encoding="utf-8")
    record = json.loads(edgegen("explain", path, "--task", "product", "--json").stdout)
    assert (record["source"], record["text"]) == ("template", "Let's take a look at Oak Shelf.")
    assert "Only a name is known" in record["note"]
