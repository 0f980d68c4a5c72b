"""The peer of labels.py: cleanlab, in an environment of its own, on the same vectors and the same flipped labels.

python benchmarks/labels.py FOLDER --save case.npz
OTHER/bin/python benchmarks/labels_cleanlab.py case.npz

Out-of-sample probabilities by logistic regression on the vectors, five folds, as cleanlab's own tutorial has it.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from cleanlab.filter import find_label_issues  # type: ignore[import-not-found]
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

case = np.load(sys.argv[1])
vectors = case["vectors"] / 127.0
start = time.perf_counter()
probabilities = cross_val_predict(
    LogisticRegression(C=10, max_iter=200), vectors, case["labels"], cv=5, method="predict_proba"
)
print(f"five folds: {time.perf_counter() - start:.0f} s")
for rule in ("prune_by_noise_rate", "both", "confident_learning"):
    found = find_label_issues(case["labels"], probabilities, filter_by=rule, n_jobs=1)
    right = (found & case["wrong"]).sum()
    print(f"| {rule} | {right / case['wrong'].sum():.3f} | {right / found.sum():.3f} |")
