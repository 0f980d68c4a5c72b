"""Which training rows are most like a text: the rows a failed example may have been learned from, or lacked.

Likeness here is shared characters (TF-IDF of character 3- and 4-grams, cosine): it needs no model, works in every
language and shows wording, not meaning. Kept and dropped rows are searched apart, so that a reader sees at once
whether the right row was there and fell.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import duckdb

from tamis.record import answer_of, prompt_of
from tamis.reports.ledger_query import ledger_file
from tamis.run import Run

# Rows searched on each side. Beyond this the index would take longer than a reader waits; the page says how many.
MOST = 20_000


@dataclasses.dataclass(frozen=True)
class Near:
    """A training row like the text asked about. `reason` is None where the row was kept."""

    id: str
    prompt: str
    answer: str
    label: str | None
    reason: str | None
    similarity: float


@dataclasses.dataclass(frozen=True)
class Index:
    """Rows of one side and their n-grams. `total` is how many rows that side has."""

    rows: list[dict[str, Any]]
    vectors: Any
    vectoriser: Any
    total: int

    def nearest(self, text: str, most: int = 3) -> list[Near]:
        """The rows most like a text, the most alike first; rows that share nothing with it are left out."""
        if not self.rows:
            return []
        scores = (self.vectors @ self.vectoriser.transform([text]).T).toarray().ravel()
        order = sorted(range(len(scores)), key=lambda i: (-scores[i], self.rows[i]["id"]))[:most]
        return [
            Near(r["id"], prompt_of(r["messages"]), answer_of(r["messages"]), r["label"], r["reason"], float(scores[i]))
            for i in order
            if scores[i] > 0 and (r := self.rows[i])
        ]


def build(run: Run, verdict: str) -> Index:
    """Index the kept or the dropped rows of a run.

    Args:
        run: the run.
        verdict: `kept` or `dropped`.

    Raises:
        duckdb.Error: ledger or records are missing or damaged.
    """
    from sklearn.feature_extraction.text import HashingVectorizer

    with duckdb.connect(":memory:", config={"autoinstall_known_extensions": "false"}) as db:
        records = [str(f) for f in sorted((run.curate / "records").glob("part-*.parquet"))]
        total = db.execute(
            "select count(*) from read_parquet(?) where verdict = ?", [str(ledger_file(run)), verdict]
        ).fetchall()[0][0]
        # by hash of the id: the same sample in every session, and no part of the file is favoured
        cursor = db.execute(
            "select r.id, r.messages, r.label, l.reason from read_parquet(?) r join read_parquet(?) l using (id) "
            "where l.verdict = ? order by hash(r.id) limit ?",
            [records, str(ledger_file(run)), verdict, MOST],
        )
        rows = [dict(zip(("id", "messages", "label", "reason"), row, strict=True)) for row in cursor.fetchall()]
    vectoriser = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 4), n_features=2**18, alternate_sign=False)
    texts = [prompt_of(r["messages"]) for r in rows]
    return Index(rows, vectoriser.transform(texts) if texts else None, vectoriser, int(total))
