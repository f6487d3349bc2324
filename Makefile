# The two set-up commands are `make quickstart` and `make test`. Each makes .venv by itself; nothing is installed by hand.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin

.PHONY: quickstart test test-slow test-all lint types install clean

quickstart: $(VENV)/.installed
	$(RUN)/posestill quickstart

test: $(VENV)/.installed-dev
	$(RUN)/python -m pytest -m "not slow" -n auto --dist loadfile --cov --cov-report=term:skip-covered --cov-fail-under=85

test-slow: $(VENV)/.installed-dev
	$(RUN)/python -m pytest -m slow --cov --cov-append --cov-report=term:skip-covered

test-all: test test-slow

lint: $(VENV)/.installed-dev
	$(RUN)/ruff check .
	$(RUN)/ruff format --check src tests

types: $(VENV)/.installed-dev
	$(RUN)/mypy

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) .ci/check_python.py
	test -x $(RUN)/python || $(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(RUN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .coverage
