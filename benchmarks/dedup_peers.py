"""The peers' side of `dedup_speed.py`, run by the peers' own Python: reads one job, prints one line of JSON."""

from __future__ import annotations

import json
import sys
import time

import numpy as np


def semhash_job(job: dict, texts: list[str]) -> dict:  # type: ignore[type-arg]
    from model2vec import StaticModel
    from semhash import SemHash

    model, threshold = StaticModel.from_pretrained(job["model"]), job["threshold"]
    vectors = np.load(job["vectors"])
    start = time.perf_counter()
    index = SemHash.from_embeddings(vectors, texts, model=model)
    kept = len(index.self_deduplicate(threshold).selected)
    given = time.perf_counter() - start
    neighbours = index.index.query_threshold(index.index.vectors, threshold=threshold)
    place = {t: i for i, t in reversed(list(enumerate(texts)))}
    rows = [place[item[0]["text"]] for item in index.index.items]
    pairs = {(min(rows[i], rows[j]), max(rows[i], rows[j])) for i, (found, _) in enumerate(neighbours) for j in found}
    start = time.perf_counter()
    model.encode(texts[:64])
    index = SemHash.from_records(texts, model=model)
    index.self_deduplicate(threshold)
    whole = time.perf_counter() - start
    start = time.perf_counter()
    model.encode(list(dict.fromkeys(texts)))
    encoding = time.perf_counter() - start
    np.save(job["out"], np.array(sorted(p for p in pairs if p[0] < p[1]), np.int64).reshape(-1, 2))
    return {"given": given, "whole": whole, "encoding": encoding, "kept": kept}


def datasketch_job(job: dict, texts: list[str]) -> dict:  # type: ignore[type-arg]
    from datasketch import MinHash, MinHashLSH

    threshold = job["threshold"]
    start = time.perf_counter()
    sets = [{t[i : i + 5] for i in range(max(len(t) - 4, 1))} for t in texts]
    index, pairs = MinHashLSH(threshold=threshold, num_perm=128), []
    for i, (grams, sketch) in enumerate(
        zip(sets, MinHash.generator([[g.encode() for g in s] for s in sets], num_perm=128), strict=True)
    ):
        for j in index.query(sketch):
            common = len(grams & sets[j])
            if round(common / (len(grams) + len(sets[j]) - common), 4) >= threshold:
                pairs.append((j, i))
        index.insert(i, sketch)
    seconds = time.perf_counter() - start
    np.save(job["out"], np.array(pairs, np.int64).reshape(-1, 2))
    return {"seconds": seconds, "pairs": len(pairs)}


if __name__ == "__main__":
    spec = json.loads(sys.argv[1])
    with open(spec["texts"], encoding="utf-8") as stream:  # noqa: PTH123
        rows = json.load(stream)
    print(json.dumps({"semhash": semhash_job, "datasketch": datasketch_job}[spec["job"]](spec, rows)))
