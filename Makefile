# Everything a newcomer needs: `make sweep` runs the main job, `make test` the tests. Both install into .venv first.
# `make sweeps` runs a smoke version of every sweep in jobs/, `make docs` builds the site into site/. What takes longer than
# the tests, or wants the machine for itself, has targets of its own: measures, ray, cluster, pages.
PYTHON ?= python3
VENV := .venv
ARGS ?=

.PHONY: first-results sweep sweeps test measures ray lowest-ray cluster lint docs pages audit install install-test clean
sweep: $(VENV)/installed
	$(VENV)/bin/raypref submit jobs/sweep_lambda.py $(ARGS)

sweeps: $(VENV)/installed
	$(VENV)/bin/raypref submit $(wildcard jobs/sweep_*.py) --preset smoke --seeds 1 --limit 2 $(ARGS)

test: $(VENV)/installed-test
	$(VENV)/bin/python -m pytest $(ARGS)

# SmolLM2-135M on two real data sets, with seeds and intervals: hours on two idle cores; cut off, it goes on where it was.
FIRST := --study first-results --preset smollm2 --no-ray --write docs/results.md $(ARGS)
first-results: $(VENV)/installed
	$(VENV)/bin/python jobs/replicate.py $(FIRST) --dataset ml-100k
	$(VENV)/bin/python jobs/replicate.py $(FIRST) --dataset lastfm

# What measures time or memory, trains until something is learned, or draws thousands of samples: one test at a time.
measures: $(VENV)/installed-test
	$(VENV)/bin/python -m pytest -m measures -n 0 $(ARGS)

# What starts Ray: the sweep's job, the training's stream, sweeps that are killed, extended, pruned and searched, and one
# that Prometheus scrapes: minutes.
ray: $(VENV)/installed-test
	$(VENV)/bin/python -m pytest -m ray -n 2 -o cache_dir=.pytest_cache/ray $(ARGS)

# The sweep's job on the lowest Ray that pyproject.toml takes: it alone lies in an environment over this one.
LOWEST := $(VENV)/lowest-ray
LOWEST_RAY = $(shell sed -n 's/.*"ray\[[a-z,]*\]>=\([0-9.]*\),.*/\1/p' pyproject.toml)
lowest-ray: $(LOWEST)/installed
	$(LOWEST)/bin/python -c 'import ray; print("ray", ray.__version__)'
	$(LOWEST)/bin/python -m pytest -m ray -n 0 tests/jobs/test_sweep_job.py -k 'ends_with or once or rows' $(ARGS)

$(LOWEST)/installed: pyproject.toml $(VENV)/installed-test
	$(VENV)/bin/python -m venv --clear --without-pip $(LOWEST)
	echo 'import site; site.addsitedir("'$$(cd $(VENV)/lib/python*/site-packages && pwd)'")' \
		> $$(echo $(LOWEST)/lib/python*/site-packages)/below.pth
	$(VENV)/bin/python -m pip --python $(LOWEST)/bin/python install -q --no-deps "ray==$(LOWEST_RAY)"
	touch $@

# Faults and exact resume, on three Ray nodes of this machine: minutes. Three files at a time, as they wait for processes;
# a cache of its own, so that another pytest beside it does not write over what failed.
cluster: $(VENV)/installed-test
	$(VENV)/bin/python -m pytest -m cluster -n 3 -o cache_dir=.pytest_cache/cluster $(ARGS)

# Known vulnerabilities of the pinned packages; needs the network.
audit: $(VENV)/installed-test
	$(VENV)/bin/python -m pip_audit -r constraints.txt --no-deps --disable-pip --progress-spinner off

lint: $(VENV)/installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy raypref
	$(VENV)/bin/lint-imports --no-cache

docs: $(VENV)/installed-test
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict
	$(VENV)/bin/raypref verify docs/results

# Every command of the docs by its own parser; the tutorial and the other pages with blocks that are run, as they stand; a
# report in a browser: minutes.
pages: $(VENV)/installed-test
	$(VENV)/bin/python -m pytest -m docs --dist load tests/docs tests/commands tests/browser $(ARGS)

install: $(VENV)/installed

install-test: $(VENV)/installed-test

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# pip compiles its 26,000 files one after the other, for a minute: afterwards all cores do, but for those that can't be.
PIP := $(VENV)/bin/python -m pip install -q --no-compile -c constraints.txt
COMPILE := $(VENV)/bin/python -m compileall -q -j 0 $(VENV)/lib > /dev/null || true

# torch goes first, as deepspeed's build looks for it.
$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) torch setuptools wheel
	$(PIP) --no-build-isolation -e .
	$(COMPILE)
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(PIP) --no-build-isolation -e ".[test,dev]"
	$(COMPILE)
	touch $@

clean:
	rm -rf $(VENV) site
