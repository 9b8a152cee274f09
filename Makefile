# Entry point for all tasks. Every target installs its prerequisites below cargo's target directory, except rustup's
# toolchains and targets, and packages of the distribution.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run server-meanwhile test kernels checked neon soak cuda check-gpu fuzz fuzz-again fuzz-keep fuzzer bench bench-server conformance page page-burn tools wasm-target optimiser browser emulator vulkan peers load lint clean

export CARGO_TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
TOOLS := $(CARGO_TARGET_DIR)/tools
export PATH := $(TOOLS)/bin:$(PATH)

TRUNK := 0.21.14
CARGO_FUZZ := 0.13.2
# The command-line tool must have exactly the version of the library.
WASM_BINDGEN = $(shell sed -n '/^name = "wasm-bindgen"$$/{n;s/version = "\(.*\)"/\1/p}' Cargo.lock)

# Parallel make targets do not share make's job server; each cargo uses all free processors.
CARGO := env -u MAKEFLAGS cargo

# Without a desktop session Mesa prints a warning about this variable, although it does not need it.
export XDG_RUNTIME_DIR ?= /tmp

LISTEN ?= 127.0.0.1:8080
MODELS ?= checkpoints

# `make run MODEL=resnet18@torchvision` or `MODEL=hf://OWNER/REPO` fetches these weights first, or takes them from the
# cache, and opens the page on them. The trainer fetches them; compiling it with Burn takes ten minutes on two cores the
# first time.
MODEL ?=
FETCHED := $(CARGO_TARGET_DIR)/fetched
AND_FETCHED = $(if $(MODEL), --model '$(MODEL)'="$$(cat $(FETCHED))" --default '$(MODEL)')

# `make run WORKER_FEATURES=burn-webgpu` builds the page with Burn's WebGPU engine in its worker, for comparison; open
# `/?engine=webgpu`.
WORKER_FEATURES ?=
PAGE := web/index.html
ifneq ($(WORKER_FEATURES),)
PAGE := web/index.$(WORKER_FEATURES).html
endif

help:
	@echo "make run           build page and server, and serve the bundled models on http://$(LISTEN)"
	@echo "make run MODEL=resnet18@torchvision   the same with published weights (see trainer fetch --list)"
	@echo "make test          run every test, including those in a browser and on emulated NEON"
	@echo "make lint          run rustfmt and clippy"
	@echo "make page          build only the page, into web/dist"
	@echo "make soak          kill and resume training runs fifty times, then load the server for half an hour"
	@echo "make fuzz          fuzz every parser of untrusted input, ten minutes each"
	@echo "make conformance   test the server with Triton's client and schemathesis"
	@echo "make cuda          build trainer and server for NVIDIA GPUs"
	@echo "make check-gpu     test the GPU code path: compile for CUDA, run on Vulkan (emulated without a GPU)"
	@echo "make bench         compare inference with other engines, natively and in a browser"
	@echo "make bench-server  compare the server with LitServe and mosec under load"

# Builds and starts the server. `make run LISTEN=0.0.0.0:80 MODELS=models` opens it to the network, with other models.
# In a fresh clone, the server is compiled on the processor that building the page leaves idle, and then linked again
# with the page.
run:
	@rustc --version >/dev/null # makes rustup install the toolchain before the parallel targets need it
	$(if $(MODEL),cargo build --release -p trainer)
	$(if $(MODEL),$(CARGO_TARGET_DIR)/release/trainer fetch '$(MODEL)' > $(FETCHED))
	@$(MAKE) --no-print-directory -j3 page server-meanwhile
	cargo build --release -p server
	exec $(CARGO_TARGET_DIR)/release/server --listen $(LISTEN) --models $(MODELS)$(AND_FETCHED)

# Builds the server with the previous page, if there is one.
server-meanwhile:
	nice -n 19 $(CARGO) build --release -p server

# One build command for everything, so that the package `tests` finds the binaries and no crate is compiled twice.
TESTED := --release -p model --features model/burn,model/webgpu -p trainer -p server -p tests
test: page browser emulator vulkan kernels
	@command -v wasm-opt >/dev/null && command -v brotli >/dev/null || { \
		echo "wasm-opt and brotli are required to check the worker's size; install binaryen and brotli" >&2; exit 1; }
	cargo build $(TESTED) --all-targets
	cargo test $(TESTED) --all-targets
	cargo test $(TESTED) --doc
	@$(MAKE) --no-print-directory checked neon

# The CPU engine as a WebAssembly module, for a test in the browser.
kernels: wasm-target
	cargo build --profile web --target wasm32-unknown-unknown -p simd128 --examples

# Tests the CPU engine on every instruction set of this machine again, with bounds and overflow checks.
CHECKED := --profile checked -p model --test cpu
checked:
	cargo test $(CHECKED)

# Tests the CPU engine on emulated NEON. Emulation is slow, so only the one test that runs every kernel is used.
ifeq ($(filter aarch64 arm64,$(shell uname -m)),)
NEON := aarch64-unknown-linux-gnu
neon: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER := aarch64-linux-gnu-gcc
neon: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER := qemu-aarch64 -L /usr/aarch64-linux-gnu
neon: emulator
	@cargo test $(CHECKED) --target $(NEON) -- --list | grep on_every_kernel
	cargo test $(CHECKED) --target $(NEON) -- on_every_kernel
endif

# Long tests: training runs that are killed and resumed fifty times, and half an hour of mixed load for the server.
SOAK_SECONDS ?= 1800
soak:
	SHORTCUT_KILLS=50 cargo test $(TESTED) --test resume -- --nocapture killed
	SHORTCUT_SOAK_SECONDS=$(SOAK_SECONDS) cargo test $(TESTED) --test soak -- --nocapture

# Fuzzes every parser of untrusted bytes in turn, starting from the corpus in the repository. New inputs and crashes are
# stored below cargo's target directory. `make fuzz FUZZ=image FUZZ_SECONDS=60` is a short run.
FUZZ ?= image pickle safetensors multipart json tensors
FUZZ_SECONDS ?= 600
FUZZ_DIR := $(CARGO_TARGET_DIR)/fuzz
# Inputs are small, because the goal is to find small inputs that are slow or use much memory; the header of a ResNet-18
# fits. Targets measure memory to the byte and have their own limits; the limits here protect the machine.
FUZZ_LIMITS := -max_len=16384 -timeout=20 -rss_limit_mb=1024 -malloc_limit_mb=64
CARGO_FUZZ_RUN = CARGO_TARGET_DIR=$(FUZZ_DIR) $(CARGO) +nightly fuzz run --codegen-units 16
fuzz: fuzzer
	@cp Cargo.lock fuzz/Cargo.lock # fuzz the dependency versions that are shipped
	@for target in $(FUZZ); do \
		found=$(FUZZ_DIR)/found/$$target; broken=$(FUZZ_DIR)/broken/$$target/; mkdir -p $$found $$broken; \
		echo "fuzzing $$target for $(FUZZ_SECONDS) s"; \
		$(CARGO_FUZZ_RUN) $$target $$found fuzz/corpus/$$target -- -max_total_time=$(FUZZ_SECONDS) $(FUZZ_LIMITS) \
			-dict=fuzz/dictionaries/$$target -artifact_prefix=$$broken -print_final_stats=1 || { \
			echo "$$target failed on the newest file in $$broken; reproduce: make fuzz-again FUZZ=$$target INPUT=FILE" >&2; exit 1; }; \
	done

# Runs one target on one file, to reproduce a failure.
fuzz-again: fuzzer
	@cp Cargo.lock fuzz/Cargo.lock
	$(CARGO_FUZZ_RUN) $(FUZZ) $(INPUT) -- $(FUZZ_LIMITS)

# Adds the inputs that the fuzzer found to the corpus, if they cover code that the corpus does not cover yet.
fuzz-keep: fuzzer
	@cp Cargo.lock fuzz/Cargo.lock
	@for target in $(FUZZ); do \
		$(CARGO_FUZZ_RUN) $$target fuzz/corpus/$$target $(FUZZ_DIR)/found/$$target -- $(FUZZ_LIMITS) -merge=1 -use_counters=0; done

# Builds trainer and server for NVIDIA GPUs. Where LLVM cannot be downloaded, LLVM_STUB names a replacement for the
# crate cubecl-llvm: kernels are compiled by NVRTC, and LLVM is not used. The lock file is restored afterwards.
LLVM_STUB ?=
GPU_DIR := $(CARGO_TARGET_DIR)/gpu
KEEP_LOCK = mkdir -p $(CARGO_TARGET_DIR); cp Cargo.lock $(CARGO_TARGET_DIR)/Cargo.lock.kept; trap 'mv $(CARGO_TARGET_DIR)/Cargo.lock.kept Cargo.lock' EXIT;
WITH_CUDA = --release -p trainer -p server --features trainer/cuda,server/cuda --target-dir $(GPU_DIR) \
	$(if $(LLVM_STUB),--config 'patch.crates-io.cubecl-llvm.path="$(LLVM_STUB)"')
cuda:
	@$(if $(LLVM_STUB),$(KEEP_LOCK)) $(CARGO) build $(WITH_CUDA)

# Tests the GPU code path as far as the machine allows: compiles for CUDA, and compares training steps of Burn's kernels
# on Vulkan (emulated if necessary), and on an NVIDIA GPU if there is one, with steps on the CPU.
check-gpu: vulkan cuda
	$(CARGO) test --release -p trainer --features wgpu --target-dir $(GPU_DIR) --bin trainer -- --test-threads 1 learning::gpu
	@! command -v nvidia-smi >/dev/null || { $(if $(LLVM_STUB),$(KEEP_LOCK)) \
		SHORTCUT_GPU=cuda $(CARGO) test $(WITH_CUDA) --bin trainer -- --test-threads 1 learning::gpu; }

# `make bench BENCH='--rounds 3 --cases resnet18:1 --peers ncnn,onnxruntime'` is a short run; `BENCH=--help` lists the
# options.
BENCH ?=
bench: page browser vulkan peers
	cargo build --release -p trainer --features webgpu
	@exec python3 -B tests/peers/bench.py $(CARGO_TARGET_DIR) $(BENCH)

# `make bench-server BENCH='--clients 8,64 --seconds 5 --workload tensor'` is a short run; `BENCH=--help` lists the
# options.
bench-server: peers load
	cargo build --release -p trainer -p server
	@exec python3 -B tests/peers/bench_server.py $(CARGO_TARGET_DIR) $(BENCH)

# Tests the server with third-party tools: NVIDIA's client of the Open Inference Protocol, and schemathesis, which
# generates requests from the OpenAPI document. `make conformance CONFORMANCE='--only client'` runs one of them.
CONFORMANCE ?=
CONFORMANCE_DIR := $(CARGO_TARGET_DIR)/conformance
conformance: $(CONFORMANCE_DIR)/made
	cargo build --release -p server
	@exec $(CONFORMANCE_DIR)/venv/bin/python -B tests/conformance/conformance.py $(CARGO_TARGET_DIR)/release/server $(CONFORMANCE)

$(CONFORMANCE_DIR)/made: tests/conformance/requirements.txt | peers
	mkdir -p $(CONFORMANCE_DIR)
	python3 -m venv --clear $(CONFORMANCE_DIR)/venv
	$(CONFORMANCE_DIR)/venv/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

DIST := $(CARGO_TARGET_DIR)/dist
# The worker: its WebAssembly module and the JavaScript around it.
WORKER := $(DIST)/worker
# Maximum size of the worker in bytes, uncompressed and compressed by brotli.
WORKER_BYTES := 1500000
WORKER_BROTLI := 600000

# Enables the features that rustc enables by default, and SIMD, because the modules do not declare their features.
WASM_OPT := wasm-opt -Os --strip-debug --strip-producers --enable-simd --enable-bulk-memory --enable-sign-ext \
	--enable-mutable-globals --enable-nontrapping-float-to-int --enable-reference-types --enable-multivalue

# wasm-opt before version 109, as in older distributions, writes index 0 for every exported table. This restores the
# index of the second of two tables.
EXPORT_SECOND_TABLE := perl -0pi -e 's/(__wbindgen_externrefs\x01)\x00/$$1\x01/'

# Optimises a module in place. Results are cached by the hash of the input.
OPTIMISE = optimise() { \
	all=$(CARGO_TARGET_DIR)/optimised/$$1; kept=$$all-$$({ echo "$(WASM_OPT)"; cat $$2; } | sha256sum | cut -c1-16); \
	[ -e $$kept ] || { mkdir -p $${all%/*}; rm -f $$all-*; \
		$(WASM_OPT) $$2 -o $$kept.new; $(EXPORT_SECOND_TABLE) $$kept.new; mv $$kept.new $$kept; }; \
	cp $$kept $$2; }

# Removes indentation, empty lines and comments from the worker's JavaScript. None of its strings spans lines.
UNINDENT = perl -0pi -e 's{^\s*/\*.*?\*/\n}{}gms; s{^\s*//.*\n}{}gm; s/^\s+//gm'

# Trunk builds offline and calls `cargo metadata`, which needs every package of the lock file for every platform, so
# they are fetched first.
FETCH := cargo fetch --locked
BUILD_PAGE := env -u MAKEFLAGS trunk build --release --offline=true --dist

# Fails if the worker exceeds its size limits; a worker with Burn is neither checked nor optimised. Trunk rewrites all
# files each time, so web/dist is replaced only if its content changes; otherwise cargo would rebuild the server.
page: tools wasm-target optimiser $(PAGE)
	$(FETCH)
	$(BUILD_PAGE) $(DIST) $(PAGE)
	@$(UNINDENT) $(WORKER).js
	@! command -v wasm-opt >/dev/null || { $(OPTIMISE); optimise page $(DIST)/page-*_bg.wasm; \
		[ -n "$(WORKER_FEATURES)" ] || optimise worker $(WORKER)_bg.wasm; }
	@[ -n "$(WORKER_FEATURES)" ] || ! command -v wasm-opt >/dev/null || ! command -v brotli >/dev/null || { \
		raw=$$(cat $(WORKER)* | wc -c); small=$$(cat $(WORKER)* | brotli -c | wc -c); \
		echo "worker: $$raw bytes (limit $(WORKER_BYTES)), $$small compressed by brotli (limit $(WORKER_BROTLI))"; \
		[ $$raw -le $(WORKER_BYTES) ] && [ $$small -le $(WORKER_BROTLI) ]; }
	@diff -rq $(DIST) web/dist >/dev/null 2>&1 || { \
		rm -rf web/dist.new && cp -r $(DIST) web/dist.new && rm -rf web/dist && mv web/dist.new web/dist; }

# The page with Burn's WebGPU engine, for `make bench`, unless its `--peers` exclude `burn-webgpu`. Compiling it takes
# minutes. The result stays below cargo's target directory.
page-burn: tools wasm-target web/index.burn-webgpu.html
	$(FETCH)
	$(BUILD_PAGE) $(CARGO_TARGET_DIR)/dist-burn web/index.burn-webgpu.html

web/index.%.html: web/index.html
	sed 's/data-type="worker"/& data-cargo-features="$*"/' $< > $@

lint: wasm-target
	cargo fmt --all --check
	cargo fmt --manifest-path tests/peers/rust/Cargo.toml --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo clippy $(TESTED) --all-targets -- -D warnings
	cargo clippy --profile web --target wasm32-unknown-unknown -p page -p worker -p simd128 --all-targets -- -D warnings

wasm-target:
	@rustup target list --installed | grep -qx wasm32-unknown-unknown || rustup target add wasm32-unknown-unknown

tools: $(TOOLS)/trunk-$(TRUNK) $(TOOLS)/wasm-bindgen-$(WASM_BINDGEN)

# Both tools compile several times faster without optimisation and are fast enough. Without default features they cannot
# download other tools, which is not needed here. The published lock file of wasm-bindgen-cli does not match its
# manifest.
INSTALL = CARGO_TARGET_DIR=$@.build CARGO_PROFILE_DEV_DEBUG=0 \
	$(CARGO) install --debug --no-default-features --root $(TOOLS)

$(TOOLS)/trunk-$(TRUNK):
	$(INSTALL) trunk --version $(TRUNK) --locked
	rm -rf $@.build
	touch $@

$(TOOLS)/wasm-bindgen-$(WASM_BINDGEN):
	$(INSTALL) wasm-bindgen-cli --bin wasm-bindgen --version $(WASM_BINDGEN)
	rm -rf $@.build
	touch $@

# libFuzzer comes with the crate libfuzzer-sys; its instrumentation requires the nightly compiler.
fuzzer: $(TOOLS)/cargo-fuzz-$(CARGO_FUZZ)
	@rustup toolchain list | grep -q ^nightly || rustup toolchain install nightly --profile minimal

$(TOOLS)/cargo-fuzz-$(CARGO_FUZZ):
	$(INSTALL) cargo-fuzz --version $(CARGO_FUZZ) --locked
	rm -rf $@.build
	touch $@

# Installs wasm-opt and brotli from the distribution's packages. Where that would need a password, the page is built
# without them.
optimiser:
	@command -v wasm-opt >/dev/null && command -v brotli >/dev/null || { \
		sudo=$$([ "$$(id -u)" = 0 ] || echo sudo -n); \
		$$sudo true 2>/dev/null && echo "installing binaryen and brotli" && \
		$$sudo apt-get update -qq && $$sudo apt-get install -y -qq binaryen brotli; } || \
		echo "wasm-opt and brotli are not installed: page and worker are not optimised, and their size is not checked"

# Installs Chromium and its WebDriver from the distribution's packages.
browser:
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || { \
		sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
		echo "installing chromium and chromium-driver"; \
		$$sudo apt-get update -qq && $$sudo apt-get install -y -qq chromium chromium-driver; }

# Installs a linker, a C library and an emulator for ARM from the distribution's packages; not needed on ARM.
emulator:
ifdef NEON
	@rustup target list --installed | grep -qx $(NEON) || rustup target add $(NEON)
	@command -v aarch64-linux-gnu-gcc >/dev/null && command -v qemu-aarch64 >/dev/null && \
		[ -e /usr/aarch64-linux-gnu/lib/crt1.o ] || { \
		sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
		packages="gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"; \
		echo "installing $$packages"; \
		$$sudo apt-get update -qq && $$sudo apt-get install -y -qq $$packages; }
endif

# Installs an adapter for the WebGPU engine on machines without a GPU: Mesa's software Vulkan, lavapipe.
vulkan:
	@ls /usr/share/vulkan/icd.d/lvp_icd.*.json >/dev/null 2>&1 || { \
		sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
		echo "installing mesa-vulkan-drivers"; \
		$$sudo apt-get update -qq && $$sudo apt-get install -y -qq mesa-vulkan-drivers; }

# Installs packages for the comparisons. If one is still missing, the comparison skips the peers that need it and says
# so.
peers:
	@packages=; lacks() { packages+=" $$1"; }; \
	python3 -c "import ensurepip, venv" 2>/dev/null || lacks python3-venv; \
	command -v npm >/dev/null || lacks npm; \
	[ -z "$$packages" ] || { \
		sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
		echo "installing$$packages"; \
		$$sudo apt-get update -qq && $$sudo apt-get install -y -qq $$packages; } || true

# Installs the load generator.
load:
	@command -v wrk >/dev/null || { \
		sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
		echo "installing wrk"; \
		$$sudo apt-get update -qq && $$sudo apt-get install -y -qq wrk; }

clean:
	cargo clean
	rm -rf web/dist web/index.*.html
