# Shortcuts for the commands in README.md.
.PHONY: demo test lint

demo:
	python ex1_basenet.py --dataset synthetic

test:
	python -m pytest

lint:
	ruff check .
