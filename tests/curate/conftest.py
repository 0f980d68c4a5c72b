import os

os.environ.setdefault("DAFT_ANALYTICS_ENABLED", "0")
