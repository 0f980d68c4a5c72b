"""Rules that drop a row, each with its reason. One example per reason stands in `EXAMPLES` and in the docs.

Rows are short here: a ticket of two words is a good ticket, so no rule counts words to call a row bad.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np

from tamis.errors import UserError
from tamis.recipe import Rules
from tamis.record import Record
from tamis.userfile import function, place

# Refusals and the boilerplate of chat assistants, which exports of tickets carry as if it were the answer.
REFUSAL = re.compile(
    r"\bas an? (?:ai|artificial intelligence|language model|large language model|virtual assistant|chatbot)\b"
    r"|\bi(?:['’]?m| am) (?:just |only )?an? (?:ai|artificial intelligence|language model|virtual assistant|automated)\b"
    r"|\bi(?:['’]?m| am)? ?(?:sorry|afraid)[, ]+(?:but )?(?:as an|i(?:['’]m| am) (?:not able|unable)|i can(?:['’]?t|not| not))"
    r"|^(?:sorry|apologies|unfortunately|regrettably)?[,. ]*i (?:can(?:['’]?t|not| not)|am (?:not able|unable) to|['’]?m (?:not able|unable) to|must decline|won['’]?t be able to)\b"
    r"|\bi(?:['’]m| am) unable to (?:assist|help|fulfil|comply|process|provide|access|answer|respond)"
    r"|\bi do(?:n['’]t| not) have (?:access to|the ability|personal|real-time)"
    r"|\b(?:my|the) (?:knowledge|training data) (?:cut-?off|only goes|only extends)|\bviolates? (?:my|our|the) (?:\w+ )?(?:guidelines|polic)"
    r"|\bi can(?:['’]?t|not| not) (?:help|assist) (?:you )?with (?:that|this)\b|\blast updated in \w+ 20\d\d\b"
    r"|\bi(?:['’]m| am) not able to (?:give|offer|provide) \w+ advice\b|\bi was trained to\b|\[regenerate response\]"
    r"|^(?:sure|certainly|of course)[!,.] (?:here|below) (?:is|are)\b.{0,60}\b(?:reply|response|version|draft)"
    r"|dưới đây là (?:một )?(?:câu trả lời|mẫu|phản hồi)|với tư cách là (?:một )?(?:mô hình|trợ lý|ai)|tôi (?:chỉ )?là (?:một )?(?:mô hình|trợ lý ảo|ai\b|trí tuệ nhân tạo)"
    r"|(?:xin lỗi|rất tiếc)[^.!?]{0,40}(?:tôi|mình|em) (?:không thể|chưa thể|không có khả năng)",
    re.IGNORECASE,
)
# Each of its alternatives that an ASCII text can match holds one of these.
_REFUSAL_SIGNS = (
    *(
        " ai",
        "artificial intelligence",
        "language model",
        "virtual assistant",
        "chatbot",
        "automated",
        "sorry",
        "afraid",
    ),
    *(
        "i can",
        "not able to",
        "unable to",
        "must decline",
        "be able to",
        "i do",
        "knowledge",
        "training data",
        "violate",
    ),
    *("last updated", "i was trained", "[regenerate", "here is", "here are", "below is", "below are"),
)
PLACEHOLDER = re.compile(
    r"\blorem ipsum\b|\bxxx(?: xxx)+\b"
    r"|\[(?:insert|your|add|enter|fill|put|placeholder|to be|tbd|todo)[^\]]{0,40}\]|<(?:insert|your|enter)[^>]{0,40}>"
    r"|\b(?:placeholder|dummy) (?:text|row|ticket|answer|content)\b|\bto be (?:filled|completed|added) (?:in )?later\b",
    re.IGNORECASE,
)
# Each of its alternatives holds one of these. Looking for them is ten times as fast.
_PLACEHOLDER_SIGNS = ("lorem", "xxx ", "[", "<", "placeholder ", "dummy ", "later")
# And a text that is nothing else.
ALL_PLACEHOLDER = re.compile(
    r"\W*(?:kiểm tra|chạy) thử[\s\d.,!-]*$"
    r"|\W*(?:todo|tbd|tba|fixme|n/?a|null|none|xxx+|placeholder|sample text|dummy(?: text| data)?)\b\W*$"
    r"|\W*(?:test(?:ing)?[\s\d.,!-]*)+\W*$"
    r"|\W*(?:asdf\w*|qwer\w*|sdfg\w*|abc(?:123)?)(?:\W+(?:asdf\w*|qwer\w*|sdfg\w*|abc))*\W*$",
    re.IGNORECASE,
)
MARKUP = re.compile(
    r"</?(?:div|span|p|br|table|tr|td|th|ul|ol|li|a|b|i|strong|em|html|body|head|script|style|font|img|h[1-6]|input|form|blockquote|hr|center)\b[^<>]{0,300}/?>"
    r"|&(?:nbsp|amp|lt|gt|quot|apos|#\d{2,5}|#x[0-9a-f]{2,5});|\{\{[^{}]{1,80}\}\}|\{%[^%]{1,80}%\}|<%[^%]{1,80}%>|\$\{[\w.]{1,60}\}"
    r"|\[/?(?:quote|url|img|b|i|code)(?:=[^\]]{0,80})?\]|<!--|<!\[CDATA\[|%%[A-Z_]{3,}%%",
    re.IGNORECASE,
)
# An answer that stops in mid sentence: long enough to be prose, and ending on a word that cannot end one.
DANGLING = re.compile(
    r"(?:\b(?:and|or|but|the|a|an|to|of|in|on|at|for|with|from|by|will|would|can|could|should|is|are|was|were|be|been|have|has|had|that|which|your|our|my|their|this|if|as|than|then|we|you|i|it|not|so|because|please|và|hoặc|của|để|cho|với|là|sẽ|đã|đang|bị|được|trong|từ|nếu|khi|mà|thì|nhưng|vì|chúng tôi|quý khách)|[,;:(\-–—])$",
    re.IGNORECASE,
)
_LAST = 32  # characters in which `DANGLING` finds what it looks for
_ENDS = re.compile(r"[.!?。！？…\"'”’)\]}>`*:|]\s*$|https?://\S+$")

EXAMPLES = {
    "empty_prompt": ("", "track order"),
    "empty_answer": ("Where is my parcel?", "  "),
    "refusal": ("Where is my parcel?", "I'm sorry, but as an AI language model I cannot track parcels."),
    "placeholder": ("lorem ipsum dolor sit amet", "track order"),
    "markup": ("<div class='body'>Where is my parcel?&nbsp;</div>", "track order"),
    "truncated": ("How do I return this?", "Print the label from your account, tape it to the box and then we will"),
    "echo": ("Where is my parcel? I ordered on Monday.", "Where is my parcel? I ordered on Monday."),
    "repetition": ("Where is my parcel?", "your parcel your parcel your parcel your parcel your parcel your parcel"),
}


def judge(prompt: str, answer: str, rules: Rules) -> str | None:
    """The first rule that a row breaks, or None.

    Args:
        prompt: what is asked (`record.prompt_of`).
        answer: what is answered; for a classification task this is the label.
        rules: which rules are on.
    """
    if rules.empty and not prompt.strip():
        return "empty_prompt"
    if rules.empty and not answer.strip():
        return "empty_answer"
    if rules.refusal and is_refusal(answer):
        return "refusal"
    if rules.placeholder and (is_placeholder(prompt) or is_placeholder(answer)):
        return "placeholder"
    if rules.markup and (MARKUP.search(prompt) or MARKUP.search(answer)):
        return "markup"
    if rules.truncated and is_cut(answer):
        return "truncated"
    if rules.echo and is_echo(prompt, answer):
        return "echo"
    if rules.repetition and (is_repetitive(prompt) or is_repetitive(answer)):
        return "repetition"
    return None


def is_counted(prompt: str, answer: str, rules: Rules) -> bool:
    """Whether a row breaks a rule that compares or counts words, which no pattern tells (`curate/signs.py`)."""
    return (rules.echo and is_echo(prompt, answer)) or (rules.repetition and (few_words(prompt) or few_words(answer)))


def is_refusal(answer: str) -> bool:
    """Whether an answer declines, or holds what chat assistants say of themselves."""
    # Looking for signs first is five times as fast. Other scripts have letters that match "i" and "s" and are neither.
    if answer.isascii():
        lower = answer.lower()
        if not any(sign in lower for sign in _REFUSAL_SIGNS):
            return False
    return REFUSAL.search(answer) is not None


def is_placeholder(text: str) -> bool:
    """Whether a text is, or holds, what somebody meant to replace."""
    if ALL_PLACEHOLDER.match(text):
        return True
    folded = text.casefold()
    return any(sign in folded for sign in _PLACEHOLDER_SIGNS) and PLACEHOLDER.search(text) is not None


def is_cut(answer: str) -> bool:
    """Whether an answer breaks off: prose (8 words or more) without an end, or on a word that cannot be the last."""
    text = answer.strip()
    count = len(text.split())
    if count < 8 or "```" in text or ("\n" in text and text.splitlines()[-1].lstrip()[:1] in "-*•0123456789|"):
        return False
    spoken = text.removesuffix("...") if text.endswith("...") else text.removesuffix("…")
    if DANGLING.search(spoken.rstrip()[-_LAST:]):
        return True
    # Prose ends with a full stop; a list of words or a line of code need not. Two sentences make it prose.
    return not _ENDS.search(text) and bool(re.search(r"[.!?]\s+\S", text))


def is_echo(prompt: str, answer: str) -> bool:
    """Whether the answer only says the prompt again. Answers under 4 words are labels and may recur in the prompt."""
    if prompt.lstrip()[:1].casefold()[:1] != answer.lstrip()[:1].casefold()[:1]:  # most are told apart by this
        return False
    said = " ".join(answer.casefold().split())
    return len(said.split()) >= 4 and said == " ".join(prompt.casefold().split())


def is_repetitive(text: str) -> bool:
    """Whether a few words make up the text: 12 words or more and under a quarter of them distinct, or 30 equal signs."""
    return few_words(text) or has_run(text, 30)


def few_words(text: str) -> bool:
    """Whether of 12 words or more under a quarter are distinct."""
    if len(text) < 2 * 12 - 1:
        return False
    found = text.casefold().split()
    n = len(found)
    # The first half alone mostly has more words than that.
    return n >= 12 and len(set(found[: n // 2])) < n / 4 and len(set(found)) < n / 4


def has_run(text: str, length: int) -> bool:
    """Whether one sign other than white space stands so many times in a row."""
    if len(text) < length:
        return False
    raw = text.encode("utf-32-le", "surrogatepass")
    codes = np.frombuffer(raw, np.uint32)
    # At least three equal neighbours: a pattern with a group takes three times as long on texts without any.
    same = codes[1:] == codes[:-1]
    if not (same[2:] & same[1:-1] & same[:-2]).any():
        return False
    return re.search(rf"(\S)\1{{{length - 1}}}", text) is not None


def file_of(spec: str) -> str:
    """The file of a rule named `file.py:function`."""
    return spec.rpartition(":")[0]


@dataclasses.dataclass(frozen=True)
class Custom:
    """The user's own rule. It travels to other processes as its source, so a cluster needs no copy of the file."""

    spec: str
    source: str

    def __call__(self, record: Record) -> str | None:
        """The reason to drop a row, or None.

        Raises:
            UserError: the rule fails, with file, line and row, or returns something else.
        """
        file = file_of(self.spec)
        try:
            verdict = function(self.spec, self.source)(record)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"the rule {self.spec} fails on row {record.id}", where=place(error, file), why=repr(error)
            ) from None
        if verdict is None or (isinstance(verdict, str) and verdict):
            return verdict
        raise UserError(
            f"the rule {self.spec} must return a reason or None, on row {record.id} it returned {verdict!r}", where=file
        )


def load_custom(spec: str) -> Custom:
    """The user's own rule, `file.py:function`.

    Raises:
        UserError: no such file or function; or the file fails, with file and line.
    """
    file = Path(file_of(spec))
    if not file_of(spec) or not file.is_file():
        raise UserError("there is no such rule file", where=spec, hint="custom rules are named file.py:function")
    rule = Custom(spec, file.read_text(encoding="utf-8"))
    function(spec, rule.source)
    return rule
