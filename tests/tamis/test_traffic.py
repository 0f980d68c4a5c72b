"""A log of what is asked against the rows of a run: silent on more of the same, loud where something moved."""

import collections
import json
import random
import shutil
import types
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tamis import data, traffic
from tamis.curate.pipeline import curate
from tamis.errors import EvidenceError
from tamis.evaluate.prompt_log import Log, Request, read
from tamis.formats import parse
from tamis.recipe import Recipe
from tamis.record import prompt_of
from tamis.run import Run

TICKETS = Path(next(iter(data.__path__))) / "tickets.jsonl"


# What users ask of six desks, in words of their own; the order of the words says nothing to an embedder of n-grams.
DESKS = {
    "delivery": "parcel courier van depot tracking doorstep neighbour late Monday address street delivered",
    "refund": "money back refund bank transfer account days waiting paid credited amount returned",
    "card": "card stolen block limit chip magnetic contactless terminal declined wallet thief frozen",
    "login": "password login locked email code reset authenticator browser phone session expired username",
    "garden": "chairs table wood varnish scratched cushion outdoor umbrella colour teak leg wobbly",
    "invoice": "invoice VAT company bookkeeping March number PDF accountant copy header tax line",
}


def asked(rng, desk):
    """What a user asks of a desk."""
    return {"prompt": " ".join([*rng.choices(DESKS[desk].split(), k=7), "please"]), "label": desk}


def made(folder, tickets, items):
    """A run of tickets, and its recipe."""
    for name, rows in (("rows", tickets), ("items", items)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    recipe = Recipe.check(
        {
            "name": "traffic",
            "data": {"path": str(folder / "rows.jsonl")},
            "eval": {"path": str(folder / "items.jsonl")},
            "embedder": "lsa",
            "curate": {"select": {"size": len(tickets) // 3}, "decontaminate": {"enabled": False}},
            "evaluate": {"task": {"kind": "classify"}},
        }
    )
    curate(run := Run(folder / "run"), recipe, quiet=True)
    return run, recipe


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A run of 300 tickets, its recipe, and 200 tickets that it never saw."""
    tickets = simple(random.Random(5), 560)
    return *made(tmp_path_factory.mktemp("traffic"), tickets[:300], tickets[300:360]), tickets[360:]


def simple(rng, n):
    """Tickets in words of their desks."""
    return [asked(rng, rng.choice([*DESKS])) for _ in range(n)]


def hard(rng, n):
    """Built-in tickets: typed by hand, in two languages, one in twenty with a wrong label."""
    found = [parse(json.loads(line)) for line in TICKETS.read_text(encoding="utf-8").splitlines()]
    return rng.sample([{"prompt": prompt_of(p.messages), "label": p.label} for p in found if p.label], n)


RELEASE = types.SimpleNamespace(answers={"finish": ["stop"] * 99 + ["length"], "parsed": [True] * 98 + [False] * 2})


def prompt(ticket):
    return ticket["prompt"]


def judged(world, tickets, **request):
    run, recipe, *_ = world
    found = traffic.judge(run, recipe, RELEASE, Log([Request(prompt(t), **request) for t in tickets], 0), None)
    return found, {row["id"]: row for row in found.rows}


@pytest.mark.slow  # embeds everything anew for each draw, as a check does
@pytest.mark.parametrize("draw", [simple, hard])
def test_more_of_the_same_raises_an_alarm_in_at_most_one_of_twenty_draws(draw, tmp_path):
    """All rows of a check together; 20 logs against each of ten runs: an unlucky one would decide for all its logs."""
    alarms = collections.Counter()
    for seed in range(10):
        rng = random.Random(seed)
        tickets = draw(rng, 2000)
        (tmp_path / str(seed)).mkdir()
        run, recipe = made(tmp_path / str(seed), tickets[:300], tickets[300:360])
        for _ in range(20):
            _, rows = judged((run, recipe), rng.sample(tickets[360:], 60), answer="none", finish="stop")
            alarms["any"] += any(row["verdict"] == "FAIL" for id_, row in rows.items() if id_ != "parsed")
            alarms.update(id_ for id_, row in rows.items() if row["verdict"] == "FAIL")
    assert alarms["any"] <= 0.05 * 200, alarms
    assert alarms["parsed"] == 200  # not one of those answers is a label


def test_what_one_group_of_users_asks_is_flagged_and_its_cluster_named(world):
    rng = random.Random(9)
    found, rows = judged(world, [*[asked(rng, "garden") for _ in range(40)], *world[2][:60]])
    assert (rows["clusters"]["verdict"], rows["prompts"]["verdict"]) == ("FAIL", "FAIL")
    assert "([garden] " in rows["clusters"]["said"]
    grown = [c for c in found.about["clusters"]["changes"] if c["recent"] > c["known"]]
    names = found.about["clusters"]["names"]
    assert {names[c["name"]].split()[0] for c in grown} == {"[garden]"}
    assert len(found.farthest) == 10


def test_answers_of_the_log_are_read_as_the_items_are(world):
    label = world[2][0]["label"]
    _, rows = judged(world, world[2][:60], answer=f"{label}.", finish="stop")
    assert (rows["parsed"]["verdict"], rows["cut"]["verdict"]) == ("PASS", "PASS")
    found, rows = judged(world, world[2][:60], answer="I would be glad to help", finish="length")
    assert (rows["parsed"]["verdict"], rows["cut"]["verdict"]) == ("FAIL", "FAIL")
    assert found.about["parsed"] == {"n": 60, "share": 0.0}
    assert "98.0% at release" in rows["parsed"]["said"]


def test_only_the_latest_requests_of_a_long_log_count(world, monkeypatch):
    monkeypatch.setattr(traffic.drift, "MOST", 50)
    run, recipe, unseen = world
    old = [Request("Tôi muốn hỏi về đơn hàng của tôi", None, "length")] * 70
    found = traffic.judge(run, recipe, RELEASE, Log([*old, *[Request(prompt(t)) for t in unseen[:50]]], 0), None)
    assert (found.about["n"], found.about["cut"]["n"]) == (50, 0)
    assert found.about["languages"]["recent"].get("vi", 0) < 0.5


def test_a_log_in_another_language_is_flagged_by_its_language(world):
    thai = [{"prompt": f"ฉันต้องการสอบถามเกี่ยวกับคำสั่งซื้อหมายเลข {n}"} for n in range(40)]
    found, rows = judged(world, thai)
    assert (rows["languages"]["verdict"], rows["prompts"]["verdict"]) == ("FAIL", "FAIL")
    assert rows["languages"]["said"].startswith("th 100% of 40 prompts; ")
    assert len(found.farthest) == 10


def test_a_run_that_is_damaged_or_of_an_older_version_is_no_evidence(world, tmp_path):
    run, recipe, unseen = world
    log = Log([Request(prompt(t)) for t in unseen[:30]], 0)
    old = Run(shutil.copytree(run.path, tmp_path / "run"))
    whole = pq.read_table(old.curate / "ledger.parquet")
    for column in ("language", "cluster"):
        pq.write_table(whole.drop_columns([column]), old.curate / "ledger.parquet")
        with pytest.raises(EvidenceError, match=f"the ledger has no column '{column}'") as error:
            traffic.judge(old, recipe, RELEASE, log, None)
        assert "an older Tamis wrote this run" in str(error.value)


def test_a_run_drawn_at_random_has_no_clusters_and_says_so(world, tmp_path):
    _, recipe, unseen = world
    run = Run(tmp_path / "run")
    curate(run, recipe.changed({"curate.select.method": "random"}), quiet=True)
    log = Log([Request(prompt(t)) for t in unseen[:30]], 0)
    found = traffic.judge(run, recipe, RELEASE, log, None)
    assert "clusters" not in {row["id"] for row in found.rows}
    assert any(note.startswith("not judged: clusters") for note in found.notes)


@pytest.mark.parametrize(
    ("line", "asked", "answered", "ended"),
    [
        ({"prompt": "a", "completion": "b", "finish_reason": "stop"}, "a", "b", "stop"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "a", "b", None),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}, "a", None, None),
        (
            {
                "request": {"messages": [{"role": "user", "content": "a"}]},
                "response": {"choices": [{"message": {"content": "b"}, "finish_reason": "length"}]},
            },
            "a",
            "b",
            "length",
        ),
        ({"question": "a", "choices": [{"text": "b", "finish_reason": "stop"}]}, "a", "b", "stop"),
        ({"text": "a", "choices": []}, "a", None, None),
    ],
)
def test_lines_of_every_usual_shape_are_read(tmp_path, line, asked, answered, ended):
    (tmp_path / "log.jsonl").write_text(json.dumps(line) + "\nnot JSON\n", encoding="utf-8")
    found = read(tmp_path / "log.jsonl")
    assert found.requests == [Request(asked, answered, ended)]
    assert found.unreadable == 1
