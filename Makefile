# What developers type; on a fresh Debian 12 each target first installs what it needs. One build tree: build/.

PORT ?= 50051
PYTHON := .venv/bin/python
# Nothing from outside: neither a server nor a package.
unexport MLOPS_WORKSPACE_ADDRESS PYTHONPATH

.PHONY: help setup build serve wheel test ctest pytest toolkits example lint-proto asan tsan bench attack fuzz lint format clean
.NOTPARALLEL:

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: ## install what is missing: Debian packages, .venv, grpcurl
	@.ci/setup

build: setup ## build everything
	@test -f build/build.ninja || cmake --preset default
	cmake --build build

serve: build wheel ## start workspaced over ./mlops/workspace, in the foreground
	@mkdir -p mlops/workspace
	@echo "Try it: build/tools/grpcurl -plaintext -d '{\"project\":\"demo\"}' 127.0.0.1:$(PORT)" \
	  mlops.workspace.v1.WorkspaceService/EnsureWorkspace
	@echo "Try it: $(PYTHON) -c 'from mlops.workspace import WorkspaceManager as M;" \
	  "print(M().get_or_create_workspace(\"demo\"))'"
	exec build/service/workspaced --base mlops/workspace --listen 127.0.0.1:$(PORT)

wheel: build build/wheel/installed ## make the Python wheel in build/wheel and install it in .venv

build/wheel/installed: build/service/workspaced .venv/.wanted CMakeLists.txt \
    $(shell find client-python proto/mlops -type f -not -path '*/.*')
	@rm -rf build/wheel
	$(PYTHON) -m pip wheel -q --no-deps --no-build-isolation -w build/wheel \
	  --config-settings=cmake.define.MLOPS_WORKSPACED=$(CURDIR)/build/service/workspaced ./client-python
	$(PYTHON) -m pip install -q --no-deps --force-reinstall build/wheel/*.whl
	@touch $@

test: lint-proto ctest pytest toolkits ## set up, build and run every test

lint-proto: setup
	.venv/bin/buf lint proto

ctest: build
	ctest --test-dir build --output-on-failure -j2

pytest: build wheel
	$(PYTHON) -m pytest tests

toolkits: wheel .toolkits/installed ## test MLOpsClient with the real MLflow, DVC, BentoML and Evidently
	.toolkits/bin/python -m pytest tests/toolkits

example: wheel .toolkits/installed ## train, version, store and monitor a small model, below ./mlops/workspace
	@# Its server leaves soon, so that `make serve` may follow.
	MLOPS_WORKSPACE_IDLE_TIMEOUT=10s .toolkits/bin/python client-python/examples/quickstart.py

# The wheel with all its extras in an environment of its own, as a user installs it.
.toolkits/installed: build/wheel/installed
	@test -x .toolkits/bin/python || $(PYTHON) -m venv .toolkits
	.toolkits/bin/python -m pip install -q --disable-pip-version-check \
	  "$$(echo build/wheel/*.whl)[all]" pytest==9.2.0 pytest-timeout==2.4.0
	.toolkits/bin/python -m pip install -q --no-deps --force-reinstall build/wheel/*.whl
	@touch $@

asan: ## unit and catalog tests under AddressSanitizer and UBSan
	@.ci/setup clang
	cmake --workflow --preset asan

tsan: ## unit and catalog tests under ThreadSanitizer
	@.ci/setup clang
	cmake --workflow --preset tsan

bench: build wheel ## measure; see tests/bench/README.md
	$(PYTHON) tests/bench/run.py

attack: build wheel ## attack a server as a connected client might; print its memory and others' latency
	$(PYTHON) tests/attack

fuzz: ## run each fuzzer for a minute
	@.ci/setup clang
	cmake --workflow --preset fuzz

lint: ## check formatting, types and the contract; build with clang's thread-safety analysis
	@.ci/setup clang
	.venv/bin/buf lint proto
	git ls-files '*.h' '*.cc' | xargs clang-format-14 --dry-run -Werror
	.venv/bin/ruff check client-python tests
	.venv/bin/ruff format --check client-python tests
	cmake --workflow --preset clang

format: ## format C++ and Python
	@.ci/setup clang
	git ls-files '*.h' '*.cc' | xargs clang-format-14 -i
	.venv/bin/ruff format client-python tests

clean: ## remove what was built
	rm -rf build .venv .toolkits
