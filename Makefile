# The two commands: `make demo` and `make test`. Everything else is cargo.
#
# PYTHON=...                  the Python 3.10+ that makes .venv
# LIBTORCH=/path              your own libtorch instead of the one installed here
# LIBTORCH_USE_PYTORCH=1      the PyTorch of the python3 on your PATH instead

PYTHON ?= python3
CARGO_FLAGS := --release --locked
# Where tests write that they were skipped.
SKIPPED := $(CURDIR)/target/skipped-tests

# With a libtorch of your own, building needs nothing installed; the demo's data and the tests' oracle still do.
ifeq ($(LIBTORCH)$(LIBTORCH_USE_PYTORCH),)
LIBTORCH_READY := .libtorch
endif

# Releases of transformers that exports must load in, each with the versions of what it needs: RELEASE/HUB/TOKENIZERS.
COMPAT := 4.51.3/0.36.0/0.21.4 4.57.6/0.36.0/0.22.1
COMPAT_FOLDERS := $(foreach release,$(COMPAT),.compat/transformers-$(firstword $(subst /, ,$(release))))

.PHONY: demo test faults compat build setup audit clean

demo: build .venv/installed  ## the whole job on real data
	recipes/quickstart.sh

# Every test of every package, also after one that failed; then those that were skipped, and why.
test: .venv/installed $(LIBTORCH_READY)  ## every test
	@mkdir -p $(dir $(SKIPPED)) && : > $(SKIPPED)
	@HEPHAESTUS_SKIPPED=$(SKIPPED) cargo test $(CARGO_FLAGS) --all-targets --no-fail-fast; code=$$?; \
	echo; echo "skipped tests: $$(sort -u $(SKIPPED) | wc -l)"; sort -u $(SKIPPED); exit $$code

faults: .venv/installed $(LIBTORCH_READY)  ## training with every call that writes made to fail, one by one
	HEPHAESTUS_FAULTS=all cargo test $(CARGO_FLAGS) --package hephaestus --test tests -- faults::

compat: .compat/installed $(LIBTORCH_READY)  ## exports, and the keys of config.json, in older releases of transformers
	HEPHAESTUS_COMPAT="$(subst $() ,:,$(foreach folder,$(COMPAT_FOLDERS),$(CURDIR)/$(folder)))" \
	  cargo test $(CARGO_FLAGS) --test tests -- compat::

.compat/installed: Makefile .venv/installed
	rm -rf .compat
	$(foreach release,$(COMPAT),$(call install_compat,$(subst /, ,$(release))))
	touch $@

# The others of its packages, torch among them, are found in .venv.
define install_compat
.venv/bin/python -m pip install --quiet --disable-pip-version-check --progress-bar off --no-deps \
	  --target .compat/transformers-$(word 1,$(1)) transformers==$(word 1,$(1)) huggingface_hub==$(word 2,$(1)) \
	  tokenizers==$(word 3,$(1)) requests urllib3 charset_normalizer idna certifi

endef

build: $(LIBTORCH_READY)  ## the programs, in target/release
	cargo build $(CARGO_FLAGS)

audit:  ## licences, advisories and sources of every dependency
	command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	cargo deny check

setup: .venv/installed $(LIBTORCH_READY)  ## .venv with libtorch and the oracle

.venv/installed: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --progress-bar off -r requirements.txt
	touch $@

.libtorch: | .venv/installed
	ln -sfn "$$(.venv/bin/python -c 'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])')" .libtorch

clean:
	rm -rf target .venv .libtorch .compat demo
