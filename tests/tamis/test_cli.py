"""The real command line, in its own process."""

import json
import os
import subprocess
import sys

import pytest

ROWS = [
    {"prompt": f"Question number {w}?", "completion": w}
    for w in ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
]


def tamis(*arguments, cwd):
    environment = {**os.environ, "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-m", "tamis.cli", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(r) + "\n" for r in ROWS))
    return tmp_path


def test_inspect_needs_no_torch(folder):
    code = (
        "import sys, tamis.cli as c\n"
        "sys.argv = ['tamis', 'inspect', 'data.jsonl', '--json']\n"
        "try: c.main()\n"
        "except SystemExit as e: assert not e.code, e.code\n"
        "assert 'torch' not in sys.modules and 'evaluate' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == 10


def test_kept_rows_are_written_byte_for_byte(folder):
    done = tamis("curate", "data.jsonl", "--rows", "4", "-o", "small.jsonl", "--embedder", "lsa", cwd=folder)
    assert done.returncode == 0, done.stderr
    source = (folder / "data.jsonl").read_bytes().splitlines()
    kept = (folder / "small.jsonl").read_bytes().splitlines()
    assert len(kept) == 4
    assert set(kept) <= set(source)


def test_why_names_the_witness_of_a_copy(folder):
    with (folder / "data.jsonl").open("a") as file:
        file.write(json.dumps(ROWS[2]) + "\n")
    tamis("curate", "data.jsonl", "--embedder", "lsa", cwd=folder)
    fates = [tamis("why", "runs/data", f"data.jsonl:{line}", cwd=folder).stdout for line in (3, 11)]
    assert sorted("kept" in f for f in fates) == [False, True]
    assert any("says exactly what" in f for f in fates)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("curate", "dta.jsonl"), "did you mean data.jsonl"),
        (("curate", "data.jsonl", "--rows", "500"), "only 10 survive"),
        (("curate", "data.jsonl", "--rows", "many"), "is not a size"),
        (("why", "runs/none", "x"), "no ledger"),
    ],
)
def test_a_users_mistake_is_exit_2_without_a_traceback(folder, arguments, message):
    done = tamis(*arguments, cwd=folder)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_locked_run_is_refused(folder):
    from tamis.run import Run

    with Run(folder / "runs" / "data").lock():
        done = tamis("curate", "data.jsonl", cwd=folder)
    assert done.returncode == 2
    assert f"held by process {os.getpid()}" in done.stderr


def test_evaluate_stays_hugging_faces_package(folder):
    for place in (folder, "/"):
        done = subprocess.run(
            [sys.executable, "-c", "import evaluate; evaluate.load"], cwd=place, capture_output=True, timeout=120
        )
        assert done.returncode == 0


def test_questions_to_a_run_answer_in_text_json_and_csv(folder):
    tamis("curate", "data.jsonl", "--rows", "4", "--embedder", "lsa", "--run", "a", cwd=folder)
    tamis("curate", "data.jsonl", "--rows", "3", "--embedder", "lsa", "--run", "b", cwd=folder)
    late = tamis(
        "sql", "a", "select id from ledger where verdict = 'dropped' order by rank limit 1", "--csv", cwd=folder
    )
    header, row = late.stdout.splitlines()
    assert header == "id"
    asked = tamis("why-not", "a", row, "--json", cwd=folder)
    assert json.loads(asked.stdout)["changes"][0] == {
        "key": "curate.select.size",
        "value": 5,
        "sentence": "set curate.select.size: 5 (it is 4 rows; the row is number 5)",
    }
    assert "kept in A, dropped in B         1" in tamis("diff", "a", "b", cwd=folder).stdout
    assert json.loads(tamis("diff", "a", "b", "--json", cwd=folder).stdout)["only_a"] == {"select: not_selected": 1}
    table = tamis("sql", "a", "select verdict, count(*) n from ledger group by all order by n", cwd=folder).stdout
    assert table.splitlines() == ["verdict  n", "kept     4", "dropped  6"]
    refused = tamis("gaps", "a", cwd=folder)
    assert (refused.returncode, "tamis evaluate" in refused.stderr) == (2, True)
