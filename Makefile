# `make demo` and `make test` need nothing but Python 3.11 or newer; the environment makes itself.
PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
# Processes that share the tests of a backend; each takes a core and about 3 GB.
JOBS ?= 2
BACKENDS := tensorflow jax torch
PYTEST = $(VENV)/bin/python -m pytest
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check install --quiet

.PHONY: help demo test test-all durations benchmarks $(BACKENDS:%=test-%) test-documents test-apps test-slow \
	test-wheel test-oldest fuzz parity evaluate notebooks figures docs lint format release clean test-openvino \
	test-distributed test-faults mutants
help:
	@echo "make demo         depth of a sample photo, with the embedded weights, into demo/"
	@echo "make test         the quicker tests on TensorFlow, JAX and PyTorch, 3 minutes each (make test-jax for one)"
	@echo "make test-all     all of them, 10 to 60 minutes"
	@echo "make test-openvino  prediction on OpenVINO, compared with PyTorch; about two minutes of CPU time"
	@echo "make test-documents  the notebooks, each block of the guides and each export, once"
	@echo "make test-apps    the demo page in Chromium, if there is one, and the Ray example"
	@echo "make test-distributed  two processes train like one, as on two hosts, on each backend (10 minutes)"
	@echo "make fuzz         damaged files of all kinds, FUZZ=300 of each, on each backend of BACKENDS"
	@echo "make test-faults  commands and trainings that are killed at FAULTS=8 places each (PyTorch)"
	@echo "make mutants      places of PACKAGE=losses changed one at a time, MUTANTS=30 of them: do its tests notice?"
	@echo "make test-slow    tests that take longer or read real data (DATA=folder)"
	@echo "make parity       full-size models against independent references (25 minutes)"
	@echo "make evaluate     the table of docs/guides/scores.md (DATA=folder), into evaluations/"
	@echo "make benchmarks   speed and memory beside other libraries, into build/benchmarks (an hour, quiet)"
	@echo "make notebooks    examples/notebooks/*.ipynb from their sources beside them"
	@echo "make figures      the figures of the documentation, into docs/figures"
	@echo "make docs         the documentation site, into build/site"
	@echo "make test-wheel   the wheel in an empty environment, without the checkout (1 to 8 minutes)"
	@echo "make test-oldest  the quicker tests on the oldest versions allowed (TensorFlow)"
	@echo "make release      wheel and source archive into dist/, checked, and the text of the tag"
	@echo "make lint         style, static checks, spelling; make format repairs what it can"

demo: $(VENV)/.user
	KERAS_BACKEND=$${KERAS_BACKEND:-tensorflow} $(VENV)/bin/python examples/demo.py --out demo

test: $(VENV)/.developer
	@echo "The quicker tests of three backends take 8 minutes on two cores; make test-torch, of one, 3."
	@$(VENV)/bin/python .ci/test_backends.py $(BACKENDS) -- --numprocesses $(JOBS) --dist loadfile

# With those that take long by tests/durations.csv.
test-all: $(VENV)/.developer
	@echo "All tests of three backends take 10 minutes on two quick cores, 60 or more on slow ones."
	@$(VENV)/bin/python .ci/test_backends.py $(BACKENDS) -- --numprocesses $(JOBS) --dist loadfile -m "not slow and not parity"

# After many tests have changed; BACKENDS=torch for one.
durations: $(VENV)/.developer
	rm -rf build/durations
	KERAS_DPT_DURATIONS=build/durations $(MAKE) test-all
	$(VENV)/bin/python .ci/durations.py build/durations

$(BACKENDS:%=test-%): test-%: $(VENV)/.developer
	KERAS_BACKEND=$* $(PYTEST) --numprocesses $(JOBS) --dist loadfile

# What works there is prediction. PyTorch computes what is expected.
test-openvino: $(VENV)/.openvino
	KERAS_BACKEND=openvino $(PYTEST) --numprocesses $(JOBS) --dist loadfile tests/test_openvino.py tests/test_cli.py

# Notebooks in their quick form. Together they take ten minutes.
test-documents: $(VENV)/.documents $(VENV)/.developer
	KERAS_BACKEND=tensorflow $(PYTEST) -m "slow or not slow" --numprocesses $(JOBS) --dist worksteal \
		tests/test_docs.py tests/test_site.py tests/test_notebooks.py tests/test_readme.py \
		tests/export

test-apps: $(VENV)/.apps $(VENV)/.developer
	KERAS_BACKEND=tensorflow $(PYTEST) -m "slow or not slow" tests/apps/test_demo_page.py tests/test_ray_example.py

test-distributed: $(VENV)/.developer
	for backend in $(BACKENDS); do KERAS_BACKEND=$$backend $(PYTEST) -m "slow or not slow" \
		tests/training/test_devices.py tests/training/test_processes.py || exit 1; done

# Whatever files hold: what they were, or one message; nothing left behind. The table is build/fuzz.md.
fuzz: export FUZZ ?= 300
fuzz: export FUZZ_TABLE ?= build/fuzz.md
fuzz: $(VENV)/.developer
	mkdir -p build && rm -f $(FUZZ_TABLE)
	failed=0; for backend in $(BACKENDS); do \
		KERAS_BACKEND=$$backend $(PYTEST) -m "slow or not slow" tests/fuzz || failed=1; done; \
		cat $(FUZZ_TABLE); exit $$failed

# Processes that are killed at any line: FAULTS=8 of each kind, on PyTorch; Linux only.
test-faults: $(VENV)/.developer
	KERAS_BACKEND=torch OMP_NUM_THREADS=1 $(PYTEST) -m slow tests/faults

# A sample of each PACKAGE, with its own quick tests, on PyTorch. The table is build/mutants.md.
mutants: export KERAS_BACKEND ?= torch
mutants: $(VENV)/.mutants
	$(VENV)/bin/python .ci/mutants.py $(or $(PACKAGE),layers models conversion weights datasets losses metrics \
		training evaluation maps) --mutants $(or $(MUTANTS),30) $(if $(AGAIN),--again)

test-slow: $(VENV)/.developer
	$(VENV)/bin/python .ci/test_backends.py $(BACKENDS) -- -m slow

# The references' answers are the same for all backends: computed once, kept here.
parity: export KERAS_DPT_PARITY_CACHE ?= build/parity
parity: $(VENV)/.developer
	for backend in $(BACKENDS); do KERAS_BACKEND=$$backend $(PYTEST) -m parity tests/parity || exit 1; done

# An interrupted run goes on; what was evaluated before is not done again.
EVALUATE = $(VENV)/bin/keras-dpt evaluate
evaluate: $(VENV)/.user
	@test -d "$(DATA)" || { echo "DATA=folder with nyuv2/, depth_misc/, middlebury/ and camvid/"; exit 1; }
	$(EVALUATE) --preset dpt_mini_nyuv2 --protocol nyuv2_val --data $(DATA)/nyuv2
	$(EVALUATE) --preset dpt_mini_nyuv2_metric --protocol nyuv2_val_metric --data $(DATA)/nyuv2
	$(EVALUATE) --preset dpt_mini_nyuv2 --protocol depth_misc --data $(DATA)/depth_misc
	$(EVALUATE) --preset dpt_mini_nyuv2 --protocol middlebury --data $(DATA)/middlebury
	$(EVALUATE) --preset dpt_mini_camvid --protocol camvid_val --data $(DATA)/camvid
	$(VENV)/bin/keras-dpt tabulate evaluations/*.json --into docs/guides/scores.md

# Those of docs/guides/benchmarks.md, an hour on a quiet machine; an interrupted run goes on.
benchmarks: $(VENV)/.developer
	$(VENV)/bin/python benchmarks/record.py --out build/benchmarks

notebooks: $(VENV)/.documents
	$(VENV)/bin/python examples/notebooks/build.py

figures: $(VENV)/.user
	KERAS_BACKEND=$${KERAS_BACKEND:-tensorflow} $(VENV)/bin/python examples/figures.py --out docs/figures

docs: $(VENV)/.documents
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

# Both archives, what is in them, and the changelog's date. Notebooks install the wheel of this version.
release: $(VENV)/.release
	$(VENV)/.release-tools/bin/python .ci/release.py

# Before a version has a date: RELEASE_PYTHON=python3.13 for another Python.
test-wheel: $(VENV)/.release $(VENV)/.developer
	$(VENV)/.release-tools/bin/python .ci/release.py --unreleased --out build/wheel
	$(VENV)/bin/python .ci/clean_room.py build/wheel/*.whl $(if $(RELEASE_PYTHON),--python $(RELEASE_PYTHON))

# The default suite on the oldest versions that pyproject.toml allows, in an environment of their own. Old packages warn
# of newer ones, so warnings are no errors here. Tests that need transformers are skipped: it wants a newer hub.
OLDEST = $(VENV)/.oldest-versions/bin/python
test-oldest: $(VENV)/.oldest
	KERAS_BACKEND=tensorflow $(OLDEST) -m pytest -W default --numprocesses $(JOBS) --dist loadfile

lint: $(VENV)/.lint
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/codespell

format: $(VENV)/.lint
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

$(VENV)/bin/python:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'keras_dpt needs Python 3.11 or newer; set PYTHON=')"
	$(PYTHON) -m venv $(VENV)

$(VENV)/.user: pyproject.toml | $(VENV)/bin/python
	$(PIP) --editable ".[samples]"
	touch $@

# PyTorch's CPU build where there is one, as that with CUDA is gigabytes; TORCH_INDEX moves its index.
$(VENV)/.developer: pyproject.toml | $(VENV)/bin/python
	@.ci/install_torch.sh $(VENV)/bin/python "$(TORCH)"
	$(PIP) --editable ".[samples,dev,jax]"
	touch $@ $(VENV)/.user $(VENV)/.lint

$(VENV)/.documents: pyproject.toml | $(VENV)/bin/python
	$(PIP) --editable ".[docs,notebooks,export]"
	touch $@ $(VENV)/.user

$(VENV)/.openvino: pyproject.toml $(VENV)/.developer
	$(PIP) --editable ".[openvino]"
	touch $@

$(VENV)/.apps: pyproject.toml | $(VENV)/bin/python
	$(PIP) --editable ".[demo,ray]" playwright
	touch $@ $(VENV)/.user

$(VENV)/.mutants: pyproject.toml $(VENV)/.developer
	$(PIP) "mutmut>=3.8,<3.9"
	touch $@

# What builds a release is not what tests it.
$(VENV)/.release: | $(VENV)/bin/python
	$(VENV)/bin/python -m venv $(VENV)/.release-tools
	$(VENV)/.release-tools/bin/python -m pip --disable-pip-version-check install --quiet "build>=1.2"
	touch $@

$(VENV)/.oldest: pyproject.toml .ci/oldest.py | $(VENV)/bin/python
	$(VENV)/bin/python -m venv $(VENV)/.oldest-versions
	mkdir -p build
	$(VENV)/bin/python .ci/oldest.py > build/oldest.txt
	@.ci/install_torch.sh $(OLDEST) "$(TORCH)"
	$(OLDEST) -m pip --disable-pip-version-check install --quiet --requirement build/oldest.txt \
		"av>=18" "hypothesis>=6.100" "pytest>=8" "pytest-xdist>=3.5" "scikit-image>=0.22" "scikit-learn>=1.4" scipy \
		"setuptools>=77" "trimesh>=4.4"
	$(OLDEST) -m pip --disable-pip-version-check install --quiet --no-deps --editable .
	touch $@

$(VENV)/.lint: pyproject.toml | $(VENV)/bin/python
	$(PIP) "ruff>=0.9" "codespell>=2.4"
	touch $@

clean:
	rm -rf $(VENV) build dist demo *.egg-info .pytest_cache .ruff_cache
