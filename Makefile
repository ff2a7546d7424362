# Everything a newcomer needs: `make sweep` runs the main job, `make test` the tests. Both install into .venv first.
# `make sweeps` runs a smoke version of every sweep in jobs/, `make docs` builds the site into site/, `make pages` runs what
# the site's pages show.
PYTHON ?= python3
VENV := .venv
RAYPREF_ROOT ?= $(CURDIR)/results
export RAYPREF_ROOT
ARGS ?=

.PHONY: sweep sweeps test cluster scenarios lint docs pages audit install clean
sweep: $(VENV)/installed
	$(VENV)/bin/raypref submit jobs/sweep_lambda.py $(ARGS)

sweeps: $(VENV)/installed
	$(VENV)/bin/raypref submit $(wildcard jobs/sweep_*.py) --preset smoke --seeds 1 --limit 2 $(ARGS)

test: $(VENV)/installed-test
	$(VENV)/bin/python -m pytest $(ARGS)

# Faults and exact resume, on three Ray nodes of this machine: minutes. Three files at a time, as they wait for processes.
cluster: $(VENV)/installed-test
	$(VENV)/bin/python -m pytest -m cluster -n 3 --dist loadfile $(ARGS)

# Sweeps through Ray that are killed, extended, pruned and searched, and one that Prometheus scrapes: minutes.
scenarios: $(VENV)/installed-test
	$(VENV)/bin/python -m pytest -m slow tests/jobs/test_sweeps_on_ray.py tests/jobs/test_prometheus.py $(ARGS)

# Known vulnerabilities of the pinned packages; needs the network.
audit: $(VENV)/installed-test
	$(VENV)/bin/python -m pip_audit -r constraints.txt --no-deps --disable-pip --progress-spinner off

lint: $(VENV)/installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy raypref

docs: $(VENV)/installed-test
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

# The tutorial and the other pages with blocks that are run, as they stand: minutes.
pages: $(VENV)/installed-test
	$(VENV)/bin/python -m pytest -m slow tests/docs $(ARGS)

install: $(VENV)/installed

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# torch goes first, as deepspeed's build looks for it.
$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install -q -c constraints.txt torch setuptools wheel
	$(VENV)/bin/python -m pip install -q --no-build-isolation -c constraints.txt -e .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(VENV)/bin/python -m pip install -q --no-build-isolation -c constraints.txt -e ".[test,dev]"
	touch $@

clean:
	rm -rf $(VENV) results site
