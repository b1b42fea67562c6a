# make run     start the daemon from this checkout: http://127.0.0.1:8080/
# make test    install what the tests need, and run all of them
# make check   format, rules, types, imports, and the unit tests, which need no servers
# make lint    the same without the tests
#
#   make run PORT=9000 ARGS='--debug'
#   make test ARGS='-k history'
#   make test WITHOUT='chromium nginx'    without these programs: their tests are skipped

PYTHON ?= python3
PORT ?= 8080
ARGS ?=
WITHOUT ?=
CARBON := 1.1.10
UWSGI := 2.0.31

export WITHOUT

# Older versions of pip print a warning otherwise.
export PIP_USE_PEP517 := 1

# Tests start Python a hundred times: without compiled files, half of their time is compiling.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: run test test-setup check unit lint format rules types imports system clean
.NOTPARALLEL:

run: .venv/.run
	@echo 'Starting the daemon. Open http://127.0.0.1:$(PORT)/try to try it; Ctrl-C stops it.'
	@exec .venv/bin/twistd -n --pidfile= realtime --port=$(PORT) $(ARGS)

test: test-setup
	REQUIRE_ALL=1 .venv/bin/python -m pytest -n 3 --dist loadfile $(ARGS)

test-setup: system .venv/.test $(if $(filter npm,$(WITHOUT)),,clients/js/node_modules tests/real/clients/node_modules) $(if $(filter carbon,$(WITHOUT)),,.venv-graphite/.graphite-$(CARBON)) $(if $(filter uwsgi,$(WITHOUT)),,.venv-uwsgi/.uwsgi-$(UWSGI))

check: lint unit

unit: .venv/.test
	.venv/bin/python -m pytest -q -n 2 --dist loadfile tests/unit tests/contracts $(ARGS)

lint: format rules types imports

format: .venv/.test
	.venv/bin/ruff format --check .

rules: .venv/.test
	.venv/bin/ruff check .

types: .venv/.test
	.venv/bin/mypy

imports: .venv/.test
	.venv/bin/lint-imports

system:
	PYTHON=$(PYTHON) sh tests/install

clean:
	rm -rf .venv .venv-* build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache

# pip is installed last, so its presence means that the venv is complete.
.venv/bin/pip:
	@PYTHON=$(PYTHON) sh tests/install python3-venv
	@echo 'Making the virtual environment .venv ...'
	@$(PYTHON) -m venv .venv

.venv/.run: setup.py pyproject.toml constraints.txt | .venv/bin/pip
	@echo 'Installing the daemon and what it needs into .venv, from PyPI: up to a minute ...'
	@.venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/.test: setup.py pyproject.toml constraints.txt | .venv/bin/pip
	@echo 'Installing the daemon, the tests and the checks into .venv, from PyPI: a minute or two ...'
	@.venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,dev]'
	.venv/bin/pip install --quiet --disable-pip-version-check --no-deps Flask-uWSGI-WebSocket==0.6.1
	@touch $@ .venv/.run

clients/js/node_modules: clients/js/package.json
	cd clients/js && npm install --silent --no-audit --no-fund
	@touch $@

tests/real/clients/node_modules: tests/real/clients/package.json
	cd tests/real/clients && npm install --silent --no-audit --no-fund
	@touch $@

# A venv of its own: Carbon needs Python 3.11 and installs into a fixed folder.
.venv-graphite/.graphite-$(CARBON):
	$(PYTHON) -m venv .venv-graphite
	GRAPHITE_NO_PREFIX=True .venv-graphite/bin/pip install --quiet --disable-pip-version-check \
		carbon==$(CARBON) whisper==$(CARBON) graphite-web==$(CARBON) gunicorn
	@touch $@

# A venv of its own, as it is compiled: it has route lines if libpcre2-dev is there.
.venv-uwsgi/.uwsgi-$(UWSGI):
	$(PYTHON) -m venv .venv-uwsgi
	.venv-uwsgi/bin/pip install --quiet --disable-pip-version-check uwsgi==$(UWSGI)
	@touch $@
