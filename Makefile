# A fresh machine needs Python 3.11 or newer; everything else is installed into .venv.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
# Two processes; the tests of a file share what they set up.
BY_FILE := -n 2 --dist loadfile

.PHONY: demo study test test-slow lint docs bench install clean

install: $(VENV)/installed

$(VENV)/installed: requirements.txt pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'error: Python 3.11 or newer is needed: make PYTHON=python3.11 ...')"
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --requirement requirements.txt
	$(RUN) -m pip install --quiet --no-deps --editable .
	touch $@

# MUSIC=soundtracks: trains on recordings of Debian's archive, too (1 GB).
demo: install
	$(RUN) experiments/compare.py demo $(if $(filter soundtracks,$(MUSIC)),--soundtracks data/soundtracks --out results/compare-soundtracks)

# STUDY="--soundtracks data/soundtracks": with recordings, 1 GB; experiments/README.md has more options.
study: install
	$(RUN) experiments/compare.py study $(STUDY)

test: install lint
	$(RUN) -m pytest $(BY_FILE) -m "not slow"

test-slow: install
	$(RUN) -m pytest $(BY_FILE) -m slow

lint: install
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

# The site, in build/site. A broken link or a public name without a docstring is an error.
# The page that runs the encoder needs npm and, the first time, a network; else it says so.
docs: install
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

bench: install
	$(RUN) -m perf $(PERF)

clean:
	rm -rf $(VENV) build *.egg-info
