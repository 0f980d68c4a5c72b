"""Our metrics as Hugging Face's `evaluate` sees them; and that package stays importable beside the folder."""

import os
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


HUBS_OWN = """
from pathlib import Path
from tamis.evaluate.hub import load, metric
texts = ["the cat sat on the mat today", "a dog barked twice at noon", "no one came home that day"]
right = ["the cat sat on a mat today", "a dog barked twice at noon", "someone came home on that day"]
for theirs, key, ours, said, true in [
    ("accuracy", "accuracy", "accuracy", [0, 1, 1, 0], [0, 1, 0, 0]),
    ("mae", "mae", "mae", [1.0, 2.5, 4.0], [1.0, 2.0, 6.0]),
    ("exact_match", "exact_match", "exact_match", texts, right),
    ("sacrebleu", "score", "bleu", texts, right),
    ("chrf", "score", "chrf", texts, right),
    ("rouge", "rougeL", "rouge_l", texts, right),
]:
    found = load(theirs, Path("cache")).compute(predictions=said, references=true)[key]
    words = [str(x) for x in said], [str(x) for x in true]
    mine = metric(ours).compute(predictions=said if ours == "mae" else words[0],
                                references=true if ours == "mae" else words[1])[ours]
    assert abs(float(found) - mine) < 1e-6, (theirs, found, mine)
print("the same")
"""


@pytest.mark.network  # the hub's metrics are scripts that are downloaded
def test_the_hubs_own_metrics_say_the_same(tmp_path):
    online = {k: v for k, v in os.environ.items() if k not in ("HF_HUB_OFFLINE", "HF_EVALUATE_OFFLINE")}
    done = subprocess.run(
        [sys.executable, "-c", HUBS_OWN], cwd=tmp_path, env=online, capture_output=True, text=True, timeout=300
    )

    assert done.stdout.strip().endswith("the same"), done.stderr[-2000:]


def test_only_one_file_imports_hugging_faces_evaluate():
    guilty = [
        file.name
        for file in (ROOT / "evaluate").glob("*.py")
        if any(line.startswith(("import evaluate", "from evaluate")) for line in file.read_text().splitlines())
    ]

    assert guilty == ["hub.py"]
