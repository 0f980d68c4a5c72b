"""Vietnamese typed without accents: telling it from other languages, and matching it with what it stands for.

Diacritics are letters here: nợ (debt) is not no (full), bán (to sell) is not bạn (friend), so nothing takes them off a
text that has them. But many people type none, and "toi muon khoa the" is a copy of "tôi muốn khóa thẻ". The rule:

* a text without accents may be a copy of one with accents; two texts with accents never meet by folding;
* at least two words must have lost an accent: a lone "no" may be what it says;
* where the data holds several accented texts that fold to the same ("tôi bán hàng", "tôi bạn hàng"), none is chosen;
* the text with accents is the one that stays, whatever the scores.
"""

from __future__ import annotations

import collections
import re
import unicodedata
from collections.abc import Sequence

import numpy as np

from tamis.curate import near
from tamis.curate.normal import hash64
from tamis.curate.texts import Texts

LOST = 2  # words that must have lost an accent

# A syllable without its accents: onset, one to three vowels, coda.
_SYLLABLE = re.compile(
    r"(?:ngh|ng|nh|th|tr|ph|kh|gh|gi|ch|qu|[bcdghklmnpqrstvx])?"
    r"(?:[aeiouy]|a[iouy]|e[ou]|i[aeu]|o[aei]|u[aeiouy]|ye|ieu|yeu|oa[iyo]|oeo|uy[aeu]|uay|uo[iu])"
    r"(?:ng|nh|ch|[cmnpt])?"
)
# Frequent words of everyday writing, without accents. Those in _SHARED are words of other languages too, or shapes
# that pinyin has, and count half.
_LIST = """
khong ko dc sdt toi minh nhan hang duoc roi cua mua thi mot moi giao nay tien gio dung gui vay nha giup dat chua nao
thay dang lam ngay nua muon voi vao ghi hom truoc dien thoi hoan khoa muc huy luon nhap chuyen nghi xem khi nguoi nhieu
giam khac loi phieu ngoai phong biet nhat tuan thoai nham nhu nhe oi theo xoa nghin kho chon nhung cach cuoi hien khach
tieng chao xin xong nhanh lien tiep viec nhau thuong quen neu phai chung thanh toan tra doi giay khoan ngan dum gium xac
dinh cai bao thue vui nho hoi len xuong tren duoi cung rat rang het buu kien bam trang phi thang nam quay hoac sinh
thong viet
"""
_SHARED_LIST = """
cho em lai mat ca bi da ve chi gia sao hay trong tim gap du ung nut mo hoc sau tang tri dia bang anh
"""
_FREQUENT, _SHARED = frozenset(_LIST.split()), frozenset(_SHARED_LIST.split())
_WORD = re.compile(r"[^\W\d_]+")
# The same for texts in ASCII, through a table: three times as fast.
_ASCII_LETTERS = str.maketrans({chr(c): " " for c in range(128) if not chr(c).isalpha()})
# Letters of no other large orthography (ă is Romanian too, đ Croatian, ơ and ư are its own).
_OWN = re.compile("[ơưằắẳẵặầấẩẫậềếểễệồốổỗộờớởỡợừứửữựảẻỉỏủỷạẹịọụỵ]")
# Shares of a text's words, chosen on the training half of the built-in data (benchmarks/vietnamese.md).
_OWN_SHARE, _SHAPE_SHARE, _FREQUENT_SHARE = 0.15, 0.75, 0.25


def fold(text: str) -> str:
    """A text without its diacritics: "nợ" becomes "no", "đ" becomes "d"."""
    if text.isascii():
        return text
    bare = "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))
    return unicodedata.normalize("NFC", bare.replace("đ", "d").replace("Đ", "D"))


def is_vietnamese(text: str) -> bool:
    """Whether the letters or the syllables of a text say that it is Vietnamese, with or without accents."""
    if text.isascii():
        bare = found = text.lower().translate(_ASCII_LETTERS).split()
    else:
        text = unicodedata.normalize("NFC", text).casefold()
        found = _WORD.findall(text)
        if _OWN.search(text) and sum(bool(_OWN.search(w)) for w in found) >= _OWN_SHARE * len(found):
            return True
        bare = fold(" ".join(found)).split()
    if _FREQUENT.isdisjoint(bare):
        return False
    frequent, shared = sum(map(_FREQUENT.__contains__, bare)), sum(map(_SHARED.__contains__, bare))
    if frequent < (1 if len(bare) <= 5 else 2) or frequent + shared / 2 < _FREQUENT_SHARE * len(bare):
        return False
    return sum(_SYLLABLE.fullmatch(w) is not None for w in bare) >= _SHAPE_SHARE * len(bare)


def lost_accents(plain: list[str], accented: list[str]) -> bool:
    """Whether the words of `plain` have no accents, and enough of `accented` do for it to be typed without."""
    return all(fold(w) == w for w in plain) and sum(fold(w) != w for w in accented) >= LOST


def worth_folding(texts: Texts, hashes: np.ndarray, vietnamese: np.ndarray) -> np.ndarray:
    """Positions of all texts that `pairs_without_accents` can pair; the others need not be looked at.

    Args:
        texts: n texts, normalised when they are taken out.
        hashes: (n,) `normal.hash64` of each.
        vietnamese: (n,) bool.
    """
    beyond = texts.beyond_ascii()
    bare = np.array([hash64(fold(t)) for t in texts.take(beyond)], np.int64)
    return np.union1d(beyond, np.flatnonzero(vietnamese | np.isin(hashes, bare))) if len(beyond) else beyond


def pairs_without_accents(
    texts: Sequence[str] | Texts, vietnamese: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Near pairs of a text typed without accents and a text with accents.

    Args:
        texts: n normalised texts.
        vietnamese: (n,) bool, which of them are known to be Vietnamese; others count only where an accented text folds
            to exactly them.
        threshold: Jaccard similarity of the texts once accents are taken off.

    Returns:
        pairs: (m, 2) int64, the text without accents first.
        similarity: (m,) float64, rounded to 1e-4.
    """
    texts = list(texts)
    folded = [fold(t) for t in texts]
    meanings: dict[str, set[str]] = collections.defaultdict(set)
    accented = []
    for i, (text, bare) in enumerate(zip(texts, folded, strict=True)):
        if text != bare:
            meanings[bare].add(text)
            if lost_accents(bare.split(), text.split()):
                accented.append(i)
    plain = [i for i, t in enumerate(texts) if t == folded[i] and (t in meanings or vietnamese[i])] if accented else []
    none = np.zeros((0, 2), np.int64), np.zeros(0)
    if not plain:
        return none
    rows = np.array(plain + accented)
    chosen = [folded[i] for i in rows.tolist()]
    pairs, similarity = near.near_pairs(chosen, near.signatures(chosen), threshold)
    keep = (pairs[:, 0] < len(plain)) & (pairs[:, 1] >= len(plain))
    pairs, similarity = rows[pairs[keep]], similarity[keep]
    clear = np.array([len(meanings[folded[j]]) == 1 for j in pairs[:, 1].tolist()], bool)
    return (pairs[clear], similarity[clear]) if len(pairs) else none
