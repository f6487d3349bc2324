# The two set-up commands are `make quickstart` and `make test`. Each makes .venv by itself; nothing is installed by hand.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin

# Two processes of one thread each are faster than one of two, and far faster than two of two. Should one of them die,
# the run ends: xdist may wait for ever when it puts another in its place.
PYTEST := OMP_NUM_THREADS=1 $(RUN)/python -m pytest -n auto --dist loadfile --max-worker-restart 0

.PHONY: quickstart test coverage test-slow test-release test-all lint types docs wheel install clean

quickstart: $(VENV)/.installed
	$(RUN)/posestill quickstart

test: $(VENV)/.installed-dev
	$(PYTEST) -m "not slow and not release"

# The quick tier with the share of lines that it runs: what CI asks for.
coverage: $(VENV)/.installed-dev
	$(PYTEST) -m "not slow and not release" --cov --cov-report=term:skip-covered --cov-fail-under=85

# One pytest for each file: with xdist one that had run many files died now and then, and its tests were lost.
test-slow: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(RUN)/python tests/slow.py

test-release: $(VENV)/.installed-dev
	$(PYTEST) -m release --timeout 0

test-all: test test-slow test-release

lint: $(VENV)/.installed-dev
	$(RUN)/ruff check .
	$(RUN)/ruff format --check src tests

types: $(VENV)/.installed-dev
	$(RUN)/mypy

# The pages of docs/ as a site in build/site; a link that leads nowhere stops it.
docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=true $(RUN)/python -m mkdocs build --strict --quiet --site-dir build/site
	$(RUN)/python benchmarks/readme.py --check

# The wheel, installed into an empty environment where the command must work.
wheel: $(VENV)/.installed-dev
	$(RUN)/python .ci/check_wheel.py

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) .ci/check_python.py
	test -x $(RUN)/python || $(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet --disable-pip-version-check -e ".[export]"
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(RUN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .coverage
