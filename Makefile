# Commands for developers. On a fresh Debian 12, each target first installs what it needs.
# All targets build in build/.

PORT ?= 50051
PYTHON := .venv/bin/python
BUILD_WHEEL := $(PYTHON) -m pip wheel -q --no-deps --no-build-isolation
# Tests mostly wait for servers, so three processes suit two cores.
IN_PARALLEL := -n 3 --dist loadfile
# Ignore a server and Python packages that the environment names.
unexport MLOPS_WORKSPACE_ADDRESS PYTHONPATH

.PHONY: help setup configure build server serve wheel wheels deb deb-check image-check arm64 test ctest pytest toolkits example lint-proto accept-proto \
  asan tsan bench fuzz linearizable crash attack soak-watch lint format clean
.NOTPARALLEL:

help: ## show this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: ## install missing dependencies: Debian packages, .venv, grpcurl
	@.ci/setup

build: configure ## build everything
	cmake --build build

server: configure
	cmake --build build --target workspaced

configure: setup
	@test -f build/build.ninja || cmake --preset default

serve: wheel ## run workspaced on ./mlops/workspace in the foreground
	@mkdir -p mlops/workspace
	@echo "Try it: build/tools/grpcurl -plaintext -d '{\"project\":\"demo\"}' 127.0.0.1:$(PORT)" \
	  mlops.workspace.v1.WorkspaceService/EnsureWorkspace
	@echo "Try it: $(PYTHON) -c 'from mlops.workspace import WorkspaceManager as M;" \
	  "print(M().get_or_create_workspace(\"demo\"))'"
	exec build/service/workspaced --base mlops/workspace --listen 127.0.0.1:$(PORT)

wheel: server build/wheel/installed ## build the Python wheel in build/wheel and install it in .venv

build/wheel/installed: build/service/workspaced .venv/.wanted CMakeLists.txt \
    $(shell find client-python proto/mlops -type f -not -path '*/.*')
	@rm -rf build/wheel
	$(BUILD_WHEEL) -w build/wheel \
	  --config-settings=cmake.define.MLOPS_WORKSPACED=$(CURDIR)/build/service/workspaced ./client-python
	$(PYTHON) -m pip install -q --no-deps --force-reinstall build/wheel/*.whl
	@touch $@

wheels: server ## build the wheel for Linux, the one without the server, and the sdist in build/wheels
	@rm -rf build/wheels
	$(BUILD_WHEEL) -w build/wheels --config-settings=wheel.platlib=false \
	  --config-settings=cmake.define.MLOPS_SERVER=OFF ./client-python
	$(PYTHON) client-python/make_sdist.py build/wheels/*-none-any.whl build/wheels
	$(BUILD_WHEEL) -w build/wheels/linux \
	  --config-settings=cmake.define.MLOPS_WORKSPACED=$(CURDIR)/build/service/workspaced ./client-python
	@# Fails if the server needs more than the tag promises.
	PATH="$(CURDIR)/.venv/bin:$$PATH" .venv/bin/auditwheel repair --plat manylinux_2_34_$$(uname -m) \
	  -w build/wheels build/wheels/linux/*.whl
	@rm -r build/wheels/linux
	@ls build/wheels

deb: server ## build the Debian package in build/
	service/packaging/make_deb.sh build/service/workspaced "$$(build/service/workspaced --version)" build

deb-check: deb wheel ## install, use (also from another network), upgrade and purge the Debian package in a booted Debian 12; needs root
	@.ci/setup deb
	tests/packaging/install_deb.sh build/mlops-workspace_*.deb

image-check: server ## build and run the container image; needs root
	@.ci/setup image
	tests/packaging/run_image.sh $(ARGS)

arm64: server ## cross-compile the server for aarch64, try it under qemu, and build its wheel in build/wheels; needs root
	@.ci/setup arm64
	service/packaging/make_arm64.sh build/arm64
	tests/packaging/run_arm64.sh build/arm64
	@# Newer symbols of glibc than the tag promises would show in this list.
	! aarch64-linux-gnu-objdump -T build/arm64/build/service/workspaced | grep -E 'GLIBC_2\.(3[5-9]|[4-9])'
	@rm -rf build/wheels/arm64
	$(BUILD_WHEEL) -w build/wheels/arm64 --config-settings=cmake.define.STRIP=/usr/bin/aarch64-linux-gnu-strip \
	  --config-settings=cmake.define.MLOPS_WORKSPACED=$(CURDIR)/build/arm64/build/service/workspaced ./client-python
	$(PYTHON) -m wheel tags --remove --platform-tag manylinux_2_34_aarch64 build/wheels/arm64/*.whl
	mv build/wheels/arm64/*.whl build/wheels
	@rmdir build/wheels/arm64
	@ls build/wheels

test: lint-proto ctest pytest toolkits ## set up, build and run every test

lint-proto: setup
	.venv/bin/buf lint proto
	.venv/bin/buf breaking proto --against proto/accepted.binpb

accept-proto: setup ## accept the current contract as the baseline of lint-proto
	.venv/bin/buf build proto --exclude-source-info -o proto/accepted.binpb

ctest: build
	ctest --test-dir build --output-on-failure -j2

pytest: build wheel
	@.ci/setup browser
	$(PYTHON) -m pytest $(IN_PARALLEL) tests

toolkits: wheel .toolkits/installed ## test MLOpsClient with the real MLflow, DVC, BentoML and Evidently
	@.ci/setup browser
	.toolkits/bin/python -m pytest $(IN_PARALLEL) tests/toolkits

example: wheel .toolkits/installed ## train, version, store and monitor a small model in ./mlops/workspace
	@# The server that the example starts exits after 10 s, so that `make serve` can follow.
	MLOPS_WORKSPACE_IDLE_TIMEOUT=10s .toolkits/bin/python client-python/examples/quickstart.py

# Installs the wheel with all extras into a separate environment, as a user does.
.toolkits/installed: build/wheel/installed
	@test -x .toolkits/bin/python || $(PYTHON) -m venv .toolkits
	@# uv resolves in seconds what takes pip minutes, but does not read pip's configuration.
	set -- "$$(echo build/wheel/*.whl)[all]" ipykernel==7.4.0 nbclient==0.11.0 \
	  $$(grep -E '^(pytest.*|playwright|axe-.*)==' .ci/requirements.txt); \
	.venv/bin/uv pip install -q --compile-bytecode --python .toolkits/bin/python "$$@" || \
	  .toolkits/bin/python -m pip install -q --disable-pip-version-check "$$@"
	.toolkits/bin/python -m pip install -q --no-deps --force-reinstall build/wheel/*.whl
	@touch $@

asan: ## run the unit and catalog tests under AddressSanitizer and UBSan
	@.ci/setup clang
	cmake --workflow --preset asan

tsan: ## run the unit and catalog tests under ThreadSanitizer
	@.ci/setup clang
	cmake --workflow --preset tsan

bench: build wheel ## run the benchmarks; see tests/bench/README.md
	@.ci/setup bench
	$(PYTHON) tests/bench/run.py

linearizable: wheel ## check that the results of concurrent clients are linearizable; takes two minutes
	@.ci/setup linearizable
	$(PYTHON) tests/linearizable/run.py $(ARGS)

crash: wheel ## simulate power cuts at the disk's writes and kill loaded servers; takes minutes, needs root
	@.ci/setup crash
	$(PYTHON) tests/crash/run.py $(ARGS)

attack: build wheel ## attack a server as a malicious client would; print its memory and others' latency
	$(PYTHON) tests/attack

soak-watch: build wheel ## watch a server that is stopped and killed under load, until 10^6 events have arrived
	$(PYTHON) tests/soak_watch.py $(ARGS)

fuzz: ## run each fuzzer for a minute
	@.ci/setup clang
	cmake --workflow --preset fuzz

lint: lint-proto ## check formatting, types and the contract; build with clang's thread-safety analysis
	@.ci/setup clang
	git ls-files '*.h' '*.cc' | xargs clang-format-14 --dry-run -Werror
	.venv/bin/ruff check client-python tests
	.venv/bin/ruff format --check client-python tests
	cmake --workflow --preset clang

format: ## format C++ and Python
	@.ci/setup clang
	git ls-files '*.h' '*.cc' | xargs clang-format-14 -i
	.venv/bin/ruff format client-python tests

clean: ## remove all build output and environments
	rm -rf build .venv .toolkits
