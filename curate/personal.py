"""Personal data: found and counted always, masked where the recipe names its kind.

    email     an address
    card      a payment card: a known issuer's prefix and length, and the check digit (Luhn; ISO/IEC 7812-1)
    account   a bank account: an IBAN (check digits of ISO 13616), or a number that is called an account
    phone     a number in international form or in a form of Vietnam, North America, Britain or France, or a number that
              is called a phone
    cccd      Vietnam's citizen identity number: 12 digits that hold province, century and sex, year of birth (circular
              59/2021/TT-BCA), or 9 or 12 digits that are called one
    mst       Vietnam's tax code: a number that is called one, or 10-3 digits with the check digit (circular
              105/2020/TT-BTC; weights as in python-stdnum's stdnum.vn.mst)

"Called" means by the words right before it, or by its key in the row. Precision comes first: a number called an order,
a parcel or a code is none of these, nor is one that only has the right length. Digits are 0 to 9.

A placeholder is `<KIND_N>`. N is the rank of the value among the run's values of its kind, sorted by a hash keyed with
the recipe's seed. So equal values get equal placeholders however the rows are ordered or split, and the outputs hold
nothing to try guesses against: a digest in place of the rank would give way to trying all numbers of a country.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from tamis.edits import Edit, Editing, NewLabel
from tamis.recipe import PERSONAL
from tamis.tables import Source, rows_of

_LOCAL = re.compile(r"[A-Za-z0-9._%+-]*[A-Za-z0-9_%+-]$")
_DOMAIN = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}(?![\w@-])")
_FILES = frozenset(("png", "jpg", "jpeg", "gif", "svg", "webp", "js", "css", "py", "txt", "pdf"))  # "logo@2x.png"
_IBAN = re.compile(r"(?<![^\W_])[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![^\W_])")
# Groups of digits and what may stand between them. A letter, "#" or "/" on either side makes them part of something
# else. The looks behind come after the first digit: so the search can jump from digit to digit.
_NUMBER = re.compile(
    r"[0-9](?<![\w#/=-].)(?<![0-9][.,].)(?:[0-9()]|[ .\-–\u00a0]{1,2}(?=[0-9(])){5,}[0-9](?![\w/=%])", re.DOTALL
)
_GROUP = re.compile(r"[0-9]+")
_DATE = re.compile(
    r"(?:19|20)[0-9]{2}[ .\-–][0-9]{1,2}[ .\-–][0-9]{1,2}|[0-9]{1,2}[ .\-–][0-9]{1,2}[ .\-–](?:19|20)[0-9]{2}"
)
# The bytes of a row in which a look is worth it: seven digits in a row or nearly so, or the head of an IBAN. Most rows
# are done with after counting digits.
_NEAR_DIGITS = re.compile(rb"[0-9](?:[ .()\-\x80-\xff]{0,4}[0-9]){6}")
_IBAN_HEAD = re.compile(rb"[A-Z][A-Z][0-9][0-9][ A-Z0-9]{10}")
_DIGITS = b"0123456789"
# Of one number: digits at least (a phone without its area) and at most (a card of 19), and groups.
FEWEST, MOST, MOST_GROUPS = 7, 19, 8

# What a number is called. Of several words the last one counts, and of two that end together the longer.
_NAMES = {
    "cccd": r"\bcccd\b|\bcmnd\b|\bcmt\b|căn cước|can cuoc|chứng minh (?:nhân dân|thư)|chung minh (?:nhan dan|thu)"
    r"|\b(?:national|citizen|identity) (?:id|identity|card|identification|number)\b|\bid card\b",
    "mst": r"\bmst\b|mã số thuế|ma so thue|\btax (?:code|id|number|identification)\b",
    "account": r"\bstk\b|số (?:tài khoản|tk\b)|so (?:tai khoan|tk\b)|tài khoản ngân hàng|tai khoan ngan hang|\biban\b"
    r"|\bacct?\b|\baccount (?:no|number|num|#)|\bbank account\b|\baccount_(?:no|number)\b",
    "card": r"\bcard\b|\bvisa\b|\bmastercard\b|\bthẻ\b",
    "phone": r"\b(?:tele)?phone\b|\bmobile\b|\bcell\b|\btel\b|\b(?:call|ring|text|reach|contact) (?:me|us|him|her)\b"
    r"|\bwhats ?app\b|\bzalo\b|\bviber\b|\bs?đt\b|\bsdt\b|điện thoại|dien thoai|\bgọi (?:cho|vào|lại|số|em|mình|tôi)\b"
    r"|\bgoi (?:cho|vao|lai|so|em|minh|toi)\b|\bliên hệ\b|\blien he\b",
    "other": r"\borders?\b|\bparcel\b|\binvoice\b|\btracking\b|\bref(?:erence)?\b|\bticket|\bserial\b|\bcode\b|\bsku\b"
    r"|\bisbn\b|\bvoucher\b|\bcoupon\b|\bcase\b|\bmodel\b|\bbill\b|\bpin\b|\botp\b|\bđơn\b|\bdon hang\b|\bmã\b"
    r"|\bvận đơn\b|\bma (?:don|van don|giam)\b|\bhó?a đơn\b|\bhoá đơn\b|[$€£₫]",
}
_CALLED = re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in _NAMES.items()), re.IGNORECASE)
_LENGTHS = {"cccd": (9, 12), "mst": (10, 12, 13), "account": tuple(range(7, 20))}  # digits
REACH = 24  # characters between a name and its number

# Issuers' prefixes and lengths, from the networks' public rules; 9704 is NAPAS, Vietnam.
_CARD = re.compile(
    r"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})|5[1-5][0-9]{14}|2(?:22[1-9]|2[3-9][0-9]|[3-6][0-9]{2}|7[01][0-9]|720)[0-9]{12}"
    r"|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|6(?:011|5[0-9]{2}|4[4-9][0-9])[0-9]{12}|35(?:2[89]|[3-8][0-9])[0-9]{12}"
    r"|62[0-9]{14,17}|9704[0-9]{12}(?:[0-9]{3})?"
)
_FOURS = re.compile(r"[0-9]{4}(?:[ -][0-9]{4}){3}")
_PROVINCE_LIST = """
001 002 004 006 008 010 011 012 014 015 017 019 020 022 024 025 026 027 030 031 033 034 035 036 037 038 040 042 044 045
046 048 049 051 052 054 056 058 060 062 064 066 067 068 070 072 074 075 077 079 080 082 083 084 086 087 089 091 092 093
094 095 096
"""
_PROVINCES = frozenset(_PROVINCE_LIST.split())
_WEIGHTS = (31, 29, 23, 19, 17, 13, 7, 5, 3)
_NORTH_AMERICA = re.compile(r"(?:1[ .-])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[.-])[2-9][0-9]{2}[.-][0-9]{4}")
_FREE_CALL = re.compile(r"1?8(?:00|88|77|66|55|44|33)")  # companies' numbers


class Found(NamedTuple):
    """One personal value in a text: where it stands, its kind, and the value with spelling taken out of it."""

    start: int
    end: int
    kind: str
    value: str


def find(text: str, key: str = "") -> list[Found]:
    """All personal data of a text, in order of place, none overlapping.

    Args:
        text: any text.
        key: what the row calls it, for a text that is a value of its own ("phone").
    """
    found = list(_emails(text)) if "@" in text else []
    for m in _IBAN.finditer(text):
        if _is_iban(value := m[0].replace(" ", "")):
            found.append(Found(m.start(), m.end(), "account", value))
    if found:  # digits in an address are no number of their own
        text = _spliced(text, [(f, "x" * (f.end - f.start)) for f in sorted(found)])
    for m in _NUMBER.finditer(text):
        found += _numbers(text, m.start(), m.end(), key)
    return sorted(found)


def _may_hold(raw: bytes) -> bool:
    if b"@" in raw or b"\\u0040" in raw:
        return True
    if len(raw) - len(raw.translate(None, _DIGITS)) < 7:
        return False
    return b"\\u" in raw or bool(_NEAR_DIGITS.search(raw) or _IBAN_HEAD.search(raw))


def _emails(text: str) -> Iterator[Found]:
    at = text.find("@")
    while at >= 0:
        low = max(at - 64, 0)
        local, domain = _LOCAL.search(text[low:at]), _DOMAIN.match(text, at + 1)
        if local and domain and domain[0].rpartition(".")[2].lower() not in _FILES:
            start = low + local.start()
            yield Found(start, domain.end(), "email", text[start : domain.end()].casefold())
        at = text.find("@", at + 1)


def _numbers(text: str, start: int, end: int, key: str) -> Iterator[Found]:
    """The personal numbers in a run of digit groups; at each group the longest one, then on behind it."""
    groups = [m.span() for m in _GROUP.finditer(text, start, end)]
    name = _name(f"{key.replace('_', ' ')}: {text[max(start - 2 * REACH, 0) : start]}")
    past = start
    for i, (first, _) in enumerate(groups):
        if first < past:
            continue
        begin = first - (first > 0 and text[first - 1] in "+(")
        alone = groups[i][1] - first >= FEWEST
        digits, ends = 0, []
        for count, (low, stop) in enumerate(groups[i : i + MOST_GROUPS], 1):
            digits += stop - low
            # A number is written in groups of two and more; one digit alone is a country's code or a 0 in brackets.
            if FEWEST <= digits <= MOST and count <= digits // 2 + 1:
                ends.append(stop)
        if ends and (reading := next(_readings(text, begin, ends, name, alone), None)):
            past, kind, value = reading
            yield Found(begin, past, kind, value)


def _name(before: str) -> str | None:
    """What the words before a number call it: a kind, "other", or None."""
    last = None
    for m in _CALLED.finditer(before):
        last = m
    if last is None or len(before) - last.end() > REACH or any(c.isdigit() or c == "\n" for c in before[last.end() :]):
        return None
    return last.lastgroup


def _readings(text: str, begin: int, ends: list[int], name: str | None, alone: bool) -> Iterator[tuple[int, str, str]]:
    """What the digits from `begin` to one of `ends` may be: (end, kind, value), best first."""
    # A group that is long enough stands for itself: what follows a space is another number.
    called = ends[:1] if alone else ends[::-1]
    if name in _LENGTHS:
        branch = [e for e in ends[1:2] if name == "mst" and re.fullmatch(r"[0-9]{10}-[0-9]{3}", text[begin:e])]
        for end in (*branch, *called):
            if len(value := _digits(text[begin:end])) in _LENGTHS[name]:
                yield end, name, value
    for end in ends[::-1]:
        if found := _shape(text[begin:end], name):
            yield end, *found
    for end in called if name == "phone" else ():
        value = _digits(text[begin:end])
        if len(value) <= 15 and not _DATE.fullmatch(text[begin:end]):
            # Spreadsheets take the first 0 off a Vietnamese number.
            yield end, "phone", "0" + value if re.fullmatch(r"[35789][0-9]{8}", value) else value


def _shape(written: str, name: str | None) -> tuple[str, str] | None:
    """What a number is by its digits and spacing alone."""
    value = _digits(written)
    if name == "other" and not _FOURS.fullmatch(written):
        return None
    if _CARD.fullmatch(value) and _luhn(value) and "(" not in written:
        return "card", value
    if len(value) == 12 and _is_cccd(value) and len({len(g) for g in _GROUP.findall(written)}) == 1:
        return "cccd", value
    if re.fullmatch(r"[0-9]{10}-[0-9]{3}", written) and _is_mst(value[:10]):
        return "mst", value
    phone = _phone(written, value)
    return ("phone", phone) if phone else None


def _digits(text: str) -> str:
    return "".join(c for c in text if "0" <= c <= "9")


def _luhn(value: str) -> bool:
    total = sum(int(c) for c in value[-1::-2]) + sum(sum(divmod(2 * int(c), 10)) for c in value[-2::-2])
    return total % 10 == 0 and len(set(value)) > 1


def _is_cccd(value: str) -> bool:
    return value[:3] in _PROVINCES and value[3] in "0123"  # men and women born in 1900-1999, 2000-2099


def _is_mst(value: str) -> bool:
    return 10 - sum(w * int(c) for w, c in zip(_WEIGHTS, value, strict=False)) % 11 == int(value[9])


def _is_iban(value: str) -> bool:
    turned = value[4:] + value[:4]
    return 15 <= len(value) <= 34 and int("".join(str(int(c, 36)) for c in turned)) % 97 == 1


def _phone(written: str, value: str) -> str | None:
    """The number in one spelling, or None: +84 912..., 0084 912... and 0912... are the same."""
    if written.startswith("+") or value.startswith("00"):
        value = value.removeprefix("00")
        if not 8 <= len(value) <= 15 or value.startswith("0") or value.endswith("00000"):
            return None
        for code in ("84", "44", "33"):
            if value.startswith(code):
                return "0" + value[2:].removeprefix("0")
        return value
    groups = _GROUP.findall(written)
    if len(groups) == 5 and re.fullmatch(r"0[1-79][0-9]{8}", value) and all(len(g) == 2 for g in groups):
        return value  # France
    if len(groups) > 1 and (len(groups[0]) < 3 or min(map(len, groups)) < 2):
        return None  # a row of figures
    if re.fullmatch(r"0[35789][0-9]{8}|02[0-9]{9}", value):  # Vietnam, mobile and fixed
        return value
    if re.fullmatch(r"84[35789][0-9]{8}", value):
        return "0" + value[2:]
    if re.fullmatch(r"07[0-9]{9}", value) or (len(groups) > 1 and re.fullmatch(r"0[12][0-9]{8,9}", value)):
        return value  # Britain
    if _NORTH_AMERICA.fullmatch(written) and not _FREE_CALL.match(value):
        return "1" + value[-10:]
    return None


@dataclasses.dataclass
class Personal:
    """Counts the personal data of rows, and masks the kinds that `numbers` holds.

    `numbers` is kind -> value -> N of its placeholder (see `number`); kinds that are not in it are left as they are.
    """

    numbers: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    mentions: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    rows: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    values: dict[str, set[str]] = dataclasses.field(default_factory=lambda: {kind: set() for kind in PERSONAL})

    def row(self, raw: bytes, row: Any) -> tuple[Any, list[Edit]]:
        """Count what a row holds.

        Args:
            raw: its bytes: most rows hold no "@" and few digits, and are not looked at any further.
            row: its value.

        Returns:
            The row, masked, and the edits that make it so.
        """
        if not _may_hold(raw):
            return row, []
        before = self.mentions.copy()
        edits: list[Edit] = []
        masked = self._masked(row, (), "", edits)
        self.rows.update(kind for kind in PERSONAL if self.mentions[kind] > before[kind])
        return masked, edits

    def editing(self, labels: dict[str, NewLabel] | None = None) -> Editing:
        """What `read_records` does to each row."""
        return Editing(self.row, self.text, labels or {})

    def text(self, text: str) -> str:
        """A text with the kinds to mask replaced; counts nothing."""
        return self._replaced(text, find(text))

    def counts(self) -> dict[str, dict[str, int]]:
        """Per kind: mentions, rows, distinct values."""
        return {
            kind: {"mentions": self.mentions[kind], "rows": self.rows[kind], "values": len(self.values[kind])}
            for kind in PERSONAL
        }

    def _masked(self, value: Any, path: tuple[str | int, ...], key: str, edits: list[Edit]) -> Any:
        if isinstance(value, (str, int)) and not isinstance(value, bool):
            text = str(value)
            found = find(text, key)
            for f in found:
                self.mentions[f.kind] += 1
                self.values[f.kind].add(f.value)
            if (new := self._replaced(text, found)) == text:
                return value
            edits.append(Edit("masked", path, new))
            return new
        if isinstance(value, list):
            return [self._masked(v, (*path, i), key, edits) for i, v in enumerate(value)]
        if isinstance(value, dict):
            inner: list[Edit] = []
            out = {self.text(k): self._masked(v, (*path, k), k, inner) for k, v in value.items()}
            # A key that is personal data itself: only the whole can be replaced.
            edits += inner if out.keys() == value.keys() else [Edit("masked", path, out)]
            return out
        return value

    def _replaced(self, text: str, found: list[Found]) -> str:
        return _spliced(text, [(f, self._placeholder(f)) for f in found if f.kind in self.numbers])

    def _placeholder(self, found: Found) -> str:
        # A value of a line that could not be read has no number.
        n = self.numbers[found.kind].get(found.value)
        return f"<{found.kind.upper()}_{n}>" if n else f"<{found.kind.upper()}>"


def _spliced(text: str, parts: list[tuple[Found, str]]) -> str:
    """A text with some of its stretches, in order, replaced."""
    out, at = [], 0
    for found, new in parts:
        out += [text[at : found.start], new]
        at = found.end
    return "".join([*out, text[at:]])


def number(sources: Iterable[Source], kinds: Iterable[str], seed: int) -> dict[str, dict[str, int]]:
    """Read the sources once and number the values of some kinds: kind -> value -> N, from 1.

    Args:
        sources: all that the run reads, so that a value has one placeholder in all of them.
        kinds: of PERSONAL.
        seed: the key of the order.
    """
    seen = Personal()
    for source in sources:
        for _, raw, row in rows_of(source):
            if isinstance(row, dict):
                seen.row(raw, row)
    key = seed.to_bytes(8, "big")
    return {
        kind: {
            value: n
            for n, value in enumerate(
                sorted(seen.values[kind], key=lambda v: hashlib.blake2b(v.encode(), key=key).digest()), 1
            )
        }
        for kind in kinds
    }
