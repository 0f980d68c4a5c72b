"""Reading answers out of outputs: the same rules for every system."""

import pyarrow as pa
import pytest

from tamis import schema
from tamis.errors import DataError
from tamis.evaluate.task import Reader, items_of, read_label, read_number
from tamis.recipe import Task

LABELS = ("block card", "unblock card", "return item", "return label", "refund", "khóa thẻ", "mở khóa thẻ")


@pytest.mark.parametrize(
    ("output", "label"),
    [
        ("block card", "block card"),
        (" Block Card.\n", "block card"),
        ('"refund"', "refund"),
        ("return label because I need one", "return label"),
        ("The intent is: unblock card", "unblock card"),  # not "block card", which is no whole word in it
        ("unblock card", "unblock card"),
        ("khóa thẻ", "khóa thẻ"),
        ("mở khóa thẻ", "mở khóa thẻ"),  # decomposed Unicode
        ("Tôi muốn mở khóa thẻ", "mở khóa thẻ"),  # the shorter label inside it was not meant
        ("either refund or return item", None),  # two are named: no answer
        ("refunding", None),
        ("blockcard", None),
        ("", None),
        ("no idea", None),
    ],
)
def test_labels_are_read_by_one_rule(output, label):
    assert read_label(output, LABELS) == label


def test_a_beginning_wins_over_a_mention():
    assert read_label("refund (not return item)", LABELS) == "refund"


@pytest.mark.parametrize(
    ("output", "number"),
    [
        ("42", "42.0"),
        ("5 + 3 = 8, so 8 apples", "8.0"),
        ("#### 1,234", "1234.0"),
        ("−3.5 degrees", "-3.5"),
        ("about 1e3", "1000.0"),
        ("none", None),
    ],
)
def test_the_last_number_is_the_answer(output, number):
    assert read_number(output) == number


def test_regress_compares_numbers_not_texts():
    reader = Reader("regress")

    assert reader.right(reader.read("so it is 8"), "#### 8.0") is True
    assert reader.right(reader.read("8.5"), "8") is False
    assert reader.right(None, "8") is False


def test_summaries_have_no_right_answer():
    assert Reader("summarise").right("a", "a") is None


def test_the_extractors_identity_changes_with_the_labels():
    assert Reader("classify", ("a", "b")).id == Reader("classify", ("a", "b")).id
    assert Reader("classify", ("a", "b")).id != Reader("classify", ("a", "c")).id


def evaluation(*rows):
    full = [{"id": str(i), "key": None, "language": None, "component": i, **r} for i, r in enumerate(rows)]
    return pa.Table.from_pylist(full, schema=schema.EVAL)


def user(text):
    return [{"role": "user", "content": text, "rest": None}]


def test_an_evaluation_set_without_labels_is_refused():
    table = evaluation({"messages": user("where"), "label": None})

    with pytest.raises(DataError, match="neither a label nor an answer"):
        items_of(table, Task(kind="classify"))


def test_an_empty_evaluation_set_is_refused():
    with pytest.raises(DataError, match="empty"):
        items_of(evaluation(), Task(kind="classify"))


def test_a_label_that_the_recipe_does_not_list_is_refused():
    task = Task(kind="classify", labels=["refund", "track order"])
    items = items_of(evaluation({"messages": user("x"), "label": "refnd"}), task)

    with pytest.raises(DataError, match="refnd") as caught:
        Reader.of(task, items)
    assert "refund" in str(caught.value.hint)


def test_an_item_is_asked_through_the_template_and_read_without_it():
    task = Task(kind="classify", template="Message: {prompt}\nIntent:")
    (item,) = items_of(evaluation({"messages": user("where {is} it"), "label": "track"}), task)

    assert item.messages == [{"role": "user", "content": "Message: where {is} it\nIntent:"}]
    assert item.text == "where {is} it"
    assert item.expected == "track"
