# `make` alone lists the targets. On a fresh machine `make demo` or `make test` does everything.
.DEFAULT_GOAL := help
unexport PYTHONDONTWRITEBYTECODE VIRTUAL_ENV
# The certificates of this machine: those of a company's network are among them.
export UV_SYSTEM_CERTS := true

TOOLS := .sluice/tools
UV := $(or $(shell command -v uv 2>/dev/null),$(TOOLS)/bin/uv)
RUN := $(UV) run --frozen --no-sync
# In a terminal its progress is worth seeing, in a log its list of packages is not.
QUIET := $(if $(MAKE_TERMOUT),,--quiet)
SETUP := .venv/.set-up
TEST_SETUP := .venv/.set-up-tests

.PHONY: help demo up down secrets check test lint unit docs images vendor bench package clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(SETUP) ## set up, then run every pipeline on sample data (LIVE=1: the real Docker Hub)
	@$(RUN) sluice demo

up: $(SETUP) ## run the whole stack with the web UI in the foreground, until ctrl-C (LIVE=1 as above)
	@$(RUN) sluice up

down: $(SETUP) ## stop everything that runs of this checkout
	@$(RUN) sluice down

secrets: ## fill in .env what docker-compose.yaml needs and .env lacks
	@PYTHONPATH=include python3 -m sluice_dev.stack.compose secrets .env

check: $(TEST_SETUP) ## format, lint, types and unit tests: 1 to 2 minutes, before each commit
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target lint unit

test: $(TEST_SETUP) ## set up, then run all tests
	@tests/browser/install_chromium.sh
	@$(RUN) pytest --numprocesses auto --maxprocesses 4 --dist loadscope --no-loadscope-reorder --cov

unit: $(TEST_SETUP) ## run the unit tests but for those that move hundreds of megabytes
	@$(RUN) pytest tests/unit -m "not large" --quiet --numprocesses 2

lint: $(TEST_SETUP) ## check style, spelling, types, templates, workflows, and that generated pages are fresh
	@$(RUN) ruff check
	@$(RUN) ruff format --check
	@$(RUN) sqlfluff lint --disable-progress-bar include
	@$(RUN) codespell
	@$(RUN) mypy
	@$(RUN) cfn-lint infra/*.yaml
	@$(RUN) check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yaml
	@$(RUN) check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yaml
	@$(RUN) check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	@$(RUN) check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/feature.yml
	@$(RUN) zizmor --offline --no-progress --quiet --pedantic .github
	@$(RUN) sluice docs --check

docs: $(SETUP) ## write the generated pages of docs/ anew, and build the site into site/
	@$(UV) sync --frozen --inexact --group docs $(QUIET)
	@$(RUN) sluice docs
	@NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict --quiet
	@echo "open site/index.html, or with a search: python3 -m http.server --bind 127.0.0.1 --directory site"

images: $(TEST_SETUP) ## take the pictures of docs/images from the stack that runs, with the data of a demo
	@tests/browser/install_chromium.sh
	@$(RUN) python -m tests.browser.images

vendor: $(SETUP) ## fetch the JavaScript libraries of the page Lake from npm, as their lock files say; they are checked in
	@$(RUN) python -m sluice_dev.vendor

bench: $(TEST_SETUP) ## measure speed and memory relative to baselines and other engines; `make bench events` runs one
	@$(RUN) python -m benchmarks $(BENCHMARKS)

ifeq (bench,$(firstword $(MAKECMDGOALS)))
BENCHMARKS := $(wordlist 2,$(words $(MAKECMDGOALS)),$(MAKECMDGOALS))
.PHONY: $(BENCHMARKS)
$(BENCHMARKS): ;@:
endif

package: $(SETUP) ## build what AWS runs besides Airflow into dist/: the wheel of the Spark job, the transform of Firehose
	@rm -rf dist && mkdir dist
	@$(UV) build --quiet --wheel --out-dir dist
	@$(UV) export --quiet --frozen --no-emit-project --no-hashes --no-annotate --output-file dist/versions.txt >/dev/null
	@$(UV) pip install --quiet --target dist/transform --python-platform x86_64-manylinux_2_28 --python-version 3.12 \
	  --only-binary :all: --constraint dist/versions.txt duckdb msgspec pyarrow pytz
	@$(UV) pip install --quiet --target dist/transform --no-deps dist/sluice-*.whl
	@cd dist/transform && find . -name __pycache__ -prune -o -type f -print | sort | "$(CURDIR)/.venv/bin/python" -c \
	  'import sys, zipfile; z = zipfile.ZipFile("../transform.zip", "w", zipfile.ZIP_DEFLATED); [z.write(f.strip()) for f in sys.stdin]; z.close()'
	@ls -l dist/*.whl dist/transform.zip

clean: ## stop everything and remove all that was made here, data included
	@if [ -x .venv/bin/sluice ]; then .venv/bin/sluice down; fi
	@rm -rf .venv .sluice site

$(SETUP): pyproject.toml uv.lock $(UV)
	@echo "getting the locked packages, about 1 GB"
	@$(UV) sync --frozen --inexact $(QUIET)
	@touch $@

# Spark, its Java and the peers of the benchmarks, which a demo does not need.
$(TEST_SETUP): pyproject.toml uv.lock $(UV)
	@echo "getting the locked packages, about 2 GB"
	@$(UV) sync --frozen --group spark --group bench --group lineage $(QUIET)
	@touch $@ $(SETUP)

$(TOOLS)/bin/uv:
	@echo "getting uv"
	@python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target $(TOOLS) uv
