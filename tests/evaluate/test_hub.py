"""Our metrics as Hugging Face's `evaluate` sees them; and that package stays importable beside the folder."""

import subprocess
import sys
from pathlib import Path

import pytest

from tamis.errors import UserError

ROOT = Path(__file__).parents[2]


def test_hugging_faces_evaluate_is_importable_from_the_root():
    code = "import evaluate; evaluate.load; print(evaluate.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)

    assert "site-packages" in done.stdout, done.stderr


def test_our_metrics_combine_with_others():
    import evaluate

    from tamis.evaluate.hub import metric

    both = evaluate.combine([metric("bleu"), metric("chrf")])
    found = both.compute(predictions=["the cat sat on the mat"] * 2, references=["the cat sat on a mat"] * 2)

    assert found["bleu"] == pytest.approx(53.7284966)
    assert "tok:13a" in found["bleu_signature"]


def test_values_are_the_registrys():
    from tamis.evaluate.hub import metric

    assert metric("rouge_l").compute(predictions=["đã hủy"], references=["đã hủy"])["rouge_l"] == 1
    assert metric("mae").compute(predictions=[1, 2.5], references=[1, 2])["mae"] == 0.25
    found = metric("accuracy").compute(predictions=["a", "b", "b", "a"], references=["a", "b", "a", "a"])
    assert found["accuracy"] == 0.75
    assert found["accuracy_lower"] < 0.75 < found["accuracy_upper"]


def test_a_metric_that_needs_more_than_texts_is_refused():
    from tamis.evaluate.hub import metric

    with pytest.raises(UserError, match="perplexity"):
        metric("perplexity")


def test_only_one_file_imports_hugging_faces_evaluate():
    guilty = [
        file.name
        for file in (ROOT / "evaluate").glob("*.py")
        if any(line.startswith(("import evaluate", "from evaluate")) for line in file.read_text().splitlines())
    ]

    assert guilty == ["hub.py"]
