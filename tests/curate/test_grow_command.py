"""`tamis grow` as it is typed: rows in, a grown run beside the old one, the kept rows in a file."""

import json

from tests.curate.test_grow import NEW, OLD, write
from tests.tamis.calling import tamis


def test_new_rows_are_added_by_the_command_and_the_closing_lines_lead_on(tmp_path):
    data, new, out = write(tmp_path / "old.jsonl", OLD), write(tmp_path / "new.jsonl", NEW), tmp_path / "kept.jsonl"
    run = tmp_path / "shop"
    assert tamis("curate", data, "--run", str(run), "--embedder", "lsa", "--quiet").code == 0
    before = (run / "curate" / "ledger.parquet").read_bytes()

    done = tamis("grow", str(run), new, "-o", str(out), "--quiet")

    assert done.code == 0, done.err
    told = done.out.splitlines()
    assert told[0].endswith(f"of {len(NEW)} new rows")
    assert told[-1] == f"next: tamis diff {run} {run}-grown, then tamis run {run}-grown"
    assert len(told) <= 10
    assert (run / "curate" / "ledger.parquet").read_bytes() == before
    compared = tamis(*told[-1].removeprefix("next: tamis ").split(",")[0].split(), "--json")
    added = json.loads(compared.out)["only_b"]
    kept = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert len(kept) == len(OLD) + added["absent"]
    assert {p for p, _ in OLD} <= {row["prompt"] for row in kept}

    again = tamis("grow", str(run), new, "-o", str(out), "--quiet", "--json")
    assert json.loads(again.out)["skipped"]
    assert json.loads(again.out)["kept"] == added["absent"]


def test_what_is_typed_wrong_is_said_and_nothing_is_made(tmp_path):
    run = tmp_path / "shop"
    data = write(tmp_path / "old.jsonl", OLD)
    assert tamis("curate", data, "--run", str(run), "--embedder", "lsa", "--quiet").code == 0
    for arguments, said in (
        ([str(run), str(tmp_path / "absent.jsonl")], "absent.jsonl"),
        ([str(run), data, "--rows", "many"], "--rows"),
        ([str(tmp_path / "none"), data], "none"),
    ):
        done = tamis("grow", *arguments, "--quiet")
        assert (done.code, said in done.err) == (2, True), done.err
    assert not (tmp_path / "shop-grown" / "curate" / "stage.json").exists()


def test_a_folder_that_is_no_run_is_said_and_none_is_made_beside_it(tmp_path):
    (tmp_path / "photos").mkdir()
    done = tamis("grow", str(tmp_path / "photos"), write(tmp_path / "new.jsonl", NEW))
    assert done.code == 2
    assert "photos" in done.err
    assert not (tmp_path / "photos-grown").exists()

    assert tamis("grow", str(tmp_path / "absent"), str(tmp_path / "new.jsonl")).code == 2
    assert not (tmp_path / "absent-grown").exists()
