# One door for everything. Every target installs what it lacks; nothing of it lands outside cargo's target directory,
# but for targets of rustup and, for `make test` and `make bench`, packages of the distribution.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run server-meanwhile test kernels checked neon soak cuda check-gpu fuzz fuzz-again fuzz-keep fuzzer bench bench-server conformance page page-burn tools wasm-target optimiser browser emulator vulkan peers load lint clean

export CARGO_TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
TOOLS := $(CARGO_TARGET_DIR)/tools
export PATH := $(TOOLS)/bin:$(PATH)

TRUNK := 0.21.14
CARGO_FUZZ := 0.13.2
# The command line must be exactly the version that the code was compiled against.
WASM_BINDGEN = $(shell sed -n '/^name = "wasm-bindgen"$$/{n;s/version = "\(.*\)"/\1/p}' Cargo.lock)

# What make runs side by side does not share its jobs: each takes what processors are free.
CARGO := env -u MAKEFLAGS cargo

# Mesa's emulation says on every start that it misses this where no session of a desktop sets it, and needs it for nothing.
export XDG_RUNTIME_DIR ?= /tmp

LISTEN ?= 127.0.0.1:8080
MODELS ?= checkpoints

# `make run MODEL=resnet18@torchvision` fetches these weights first, or takes them from the cache, and opens the page on them;
# `make run MODEL=hf://OWNER/REPO` too. It is the trainer that fetches, and that has Burn, which two processors compile for ten
# minutes the first time.
MODEL ?=
FETCHED := $(CARGO_TARGET_DIR)/fetched
AND_FETCHED = $(if $(MODEL), --model '$(MODEL)'="$$(cat $(FETCHED))" --default '$(MODEL)')

# `make run WORKER_FEATURES=burn-webgpu`: the page with Burn's WebGPU engine in its worker, to compare with,
# at `/?engine=webgpu`.
WORKER_FEATURES ?=
PAGE := web/index.html
ifneq ($(WORKER_FEATURES),)
PAGE := web/index.$(WORKER_FEATURES).html
endif

help:
	@echo "make run    build page and server, and serve the bundled models on http://$(LISTEN)"
	@echo "make run MODEL=resnet18@torchvision  the same with weights that others published (trainer fetch --list)"
	@echo "make test   every test of the workspace, the browser's and, emulated, NEON's included"
	@echo "make soak   trainings that are killed fifty times, and half an hour of everything at once for the server"
	@echo "make check-gpu  the trainer's way over a GPU: CUDA compiled, Vulkan run, by an emulation if need be"
	@echo "make fuzz   what strangers send, made up by libFuzzer: ten minutes for each parser"
	@echo "make bench  Shortcut beside other people's engines, natively and in the browser"
	@echo "make bench-server  our server beside LitServe and mosec, under load"
	@echo "make conformance   Triton's client and schemathesis against our server"
	@echo "make page   the page alone, into web/dist"
	@echo "make lint   rustfmt and clippy"

# Builds and starts the server. `make run LISTEN=0.0.0.0:80 MODELS=models` opens it to the network, with other models.
# Of a fresh clone, the server is compiled while the tools and the page leave a processor idle; then it takes the page in.
run:
	@rustc --version >/dev/null # rustup installs the toolchain now, and not three times at once
	$(if $(MODEL),cargo build --release -p trainer)
	$(if $(MODEL),$(CARGO_TARGET_DIR)/release/trainer fetch '$(MODEL)' > $(FETCHED))
	@$(MAKE) --no-print-directory -j3 page server-meanwhile
	cargo build --release -p server
	exec $(CARGO_TARGET_DIR)/release/server --listen $(LISTEN) --models $(MODELS)$(AND_FETCHED)

# With the page of before, if with any.
server-meanwhile:
	nice -n 19 $(CARGO) build --release -p server

# Everything is built in one go first, so that the package `tests` finds the binaries and no crate is compiled twice.
TESTED := --release -p model --features model/burn,model/webgpu -p trainer -p server -p tests
test: page browser emulator vulkan kernels
	@command -v wasm-opt >/dev/null && command -v brotli >/dev/null || { echo "nobody has weighed the worker" >&2; exit 1; }
	cargo build $(TESTED) --all-targets
	cargo test $(TESTED) --all-targets
	@$(MAKE) --no-print-directory checked neon

# The CPU engine as WebAssembly, for a test in the browser.
kernels: wasm-target
	cargo build --profile web --target wasm32-unknown-unknown -p simd128 --examples

# The CPU engine on every instruction set of this machine once more, with every index and every sum checked.
CHECKED := --profile checked -p model --test cpu
checked:
	cargo test $(CHECKED)

# The same on NEON where the machine has none. Emulated arithmetic is slow: one test, which runs every kernel.
ifeq ($(filter aarch64 arm64,$(shell uname -m)),)
NEON := aarch64-unknown-linux-gnu
neon: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER := aarch64-linux-gnu-gcc
neon: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER := qemu-aarch64 -L /usr/aarch64-linux-gnu
neon: emulator
	@cargo test $(CHECKED) --target $(NEON) -- --list | grep on_every_kernel
	cargo test $(CHECKED) --target $(NEON) -- on_every_kernel
endif

# What takes longer: trainings that are killed fifty times, and half an hour of everything at once for the server.
SOAK_SECONDS ?= 1800
soak:
	SHORTCUT_KILLS=50 cargo test $(TESTED) --test resume -- --nocapture killed
	SHORTCUT_SOAK_SECONDS=$(SOAK_SECONDS) cargo test $(TESTED) --test soak -- --nocapture

# Every parser of strangers' bytes, one after the other, from the corpus in the repository. What brings it further stays below
# cargo's target directory, and so does what it breaks on. `make fuzz FUZZ=image FUZZ_SECONDS=60` is a short one.
FUZZ ?= image pickle safetensors multipart json tensors
FUZZ_SECONDS ?= 600
FUZZ_DIR := $(CARGO_TARGET_DIR)/fuzz
# Files are small, for what is slow or takes memory in spite of that is what is looked for; the header of a ResNet-18 fits. Targets
# measure memory to the byte, their limits being their own; these stop what would take the machine down before it is measured.
FUZZ_LIMITS := -max_len=16384 -timeout=20 -rss_limit_mb=1024 -malloc_limit_mb=64
CARGO_FUZZ_RUN = CARGO_TARGET_DIR=$(FUZZ_DIR) $(CARGO) +nightly fuzz run --codegen-units 16
fuzz: fuzzer
	@cp Cargo.lock fuzz/Cargo.lock # what is fuzzed are the versions that are shipped
	@for target in $(FUZZ); do \
		found=$(FUZZ_DIR)/found/$$target; broken=$(FUZZ_DIR)/broken/$$target/; mkdir -p $$found $$broken; \
		echo "fuzzing $$target for $(FUZZ_SECONDS) s"; \
		$(CARGO_FUZZ_RUN) $$target $$found fuzz/corpus/$$target -- -max_total_time=$(FUZZ_SECONDS) $(FUZZ_LIMITS) \
			-dict=fuzz/dictionaries/$$target -artifact_prefix=$$broken -print_final_stats=1 || { \
			echo "$$target broke on the newest of $$broken; once more: make fuzz-again FUZZ=$$target INPUT=FILE" >&2; exit 1; }; \
	done

# One file, to see what it breaks.
fuzz-again: fuzzer
	@cp Cargo.lock fuzz/Cargo.lock
	$(CARGO_FUZZ_RUN) $(FUZZ) $(INPUT) -- $(FUZZ_LIMITS)

# What brought a fuzzer further and is not covered by the corpus, into the corpus.
fuzz-keep: fuzzer
	@cp Cargo.lock fuzz/Cargo.lock
	@for target in $(FUZZ); do \
		$(CARGO_FUZZ_RUN) $$target fuzz/corpus/$$target $(FUZZ_DIR)/found/$$target -- $(FUZZ_LIMITS) -merge=1 -use_counters=0; done

# Trainer and server for NVIDIA's GPUs. Where LLVM cannot be downloaded, LLVM_STUB names a stand-in for the crate cubecl-llvm, which the
# compiler that is used here, NVRTC, does not need; the lock file stays as it is.
LLVM_STUB ?=
GPU_DIR := $(CARGO_TARGET_DIR)/gpu
KEEP_LOCK = mkdir -p $(CARGO_TARGET_DIR); cp Cargo.lock $(CARGO_TARGET_DIR)/Cargo.lock.kept; trap 'mv $(CARGO_TARGET_DIR)/Cargo.lock.kept Cargo.lock' EXIT;
WITH_CUDA = --release -p trainer -p server --features trainer/cuda,server/cuda --target-dir $(GPU_DIR) \
	$(if $(LLVM_STUB),--config 'patch.crates-io.cubecl-llvm.path="$(LLVM_STUB)"')
cuda:
	@$(if $(LLVM_STUB),$(KEEP_LOCK)) $(CARGO) build $(WITH_CUDA)

# The way over a GPU, as far as it can be walked: CUDA compiled, and steps of training beside the CPU's with Burn's kernels for
# Vulkan, of which an emulation does, and on NVIDIA's GPU where there is one.
check-gpu: vulkan cuda
	$(CARGO) test --release -p trainer --features wgpu --target-dir $(GPU_DIR) --bin trainer -- --test-threads 1 learning::gpu
	@! command -v nvidia-smi >/dev/null || { $(if $(LLVM_STUB),$(KEEP_LOCK)) \
		SHORTCUT_GPU=cuda $(CARGO) test $(WITH_CUDA) --bin trainer -- --test-threads 1 learning::gpu; }

# `make bench BENCH='--rounds 3 --cases resnet18:1 --peers ncnn,onnxruntime'` is a short one; `BENCH=--help` tells the rest.
BENCH ?=
bench: page browser vulkan peers
	cargo build --release -p trainer --features webgpu
	@exec python3 -B tests/peers/bench.py $(CARGO_TARGET_DIR) $(BENCH)

# `make bench-server BENCH='--clients 8,64 --seconds 5 --workload tensor'` is a short one; `BENCH=--help` tells the rest.
bench-server: peers load
	cargo build --release -p trainer -p server
	@exec python3 -B tests/peers/bench_server.py $(CARGO_TARGET_DIR) $(BENCH)

# Other people's clients and tests against our server: NVIDIA's client of the Open Inference Protocol, and schemathesis, which
# makes requests up from our OpenAPI document. `make conformance CONFORMANCE='--only client'` runs one of them.
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
# What a browser loads of the worker: its module, and the JavaScript around it.
WORKER := $(DIST)/worker
# In bytes as they are and under brotli, the most that is.
WORKER_BYTES := 1500000
WORKER_BROTLI := 600000

# The features are those that rustc takes for granted, and SIMD; the modules do not name them.
WASM_OPT := wasm-opt -Os --strip-debug --strip-producers --enable-simd --enable-bulk-memory --enable-sign-ext \
	--enable-mutable-globals --enable-nontrapping-float-to-int --enable-reference-types --enable-multivalue

# Before its version 109, which older distributions have, wasm-opt writes 0 as the number of whatever table is exported. This
# one is the second of two.
EXPORT_SECOND_TABLE := perl -0pi -e 's/(__wbindgen_externrefs\x01)\x00/$$1\x01/'

# Makes a module of this name smaller where it lies. What comes out is kept, by what went in.
OPTIMISE = optimise() { \
	all=$(CARGO_TARGET_DIR)/optimised/$$1; kept=$$all-$$({ echo "$(WASM_OPT)"; cat $$2; } | sha256sum | cut -c1-16); \
	[ -e $$kept ] || { mkdir -p $${all%/*}; rm -f $$all-*; \
		$(WASM_OPT) $$2 -o $$kept.new; $(EXPORT_SECOND_TABLE) $$kept.new; mv $$kept.new $$kept; }; \
	cp $$kept $$2; }

# The JavaScript around the worker, without its indentation and its comments, none of whose strings spans lines.
UNINDENT = perl -0pi -e 's{^\s*/\*.*?\*/\n}{}gms; s/^[ \t]+//gm'

# Trunk builds offline, and asks cargo about all that the lock file names, whatever machine it is for: it is to be there before.
FETCH := cargo fetch --locked
BUILD_PAGE := env -u MAKEFLAGS trunk build --release --offline=true --dist

# Fails if the worker has become heavier than that; one with Burn is neither weighed nor made smaller. Trunk writes everything anew each time:
# what was optimised before is not again, and what is the same stays as it lies, or the server would be built again.
page: tools wasm-target optimiser $(PAGE)
	$(FETCH)
	$(BUILD_PAGE) $(DIST) $(PAGE)
	@$(UNINDENT) $(WORKER).js
	@! command -v wasm-opt >/dev/null || { $(OPTIMISE); optimise page $(DIST)/page-*_bg.wasm; \
		[ -n "$(WORKER_FEATURES)" ] || optimise worker $(WORKER)_bg.wasm; }
	@[ -n "$(WORKER_FEATURES)" ] || ! command -v wasm-opt >/dev/null || ! command -v brotli >/dev/null || { \
		raw=$$(cat $(WORKER)* | wc -c); small=$$(cat $(WORKER)* | brotli -c | wc -c); \
		echo "the worker has $$raw bytes of $(WORKER_BYTES), under brotli $$small of $(WORKER_BROTLI)"; \
		[ $$raw -le $(WORKER_BYTES) ] && [ $$small -le $(WORKER_BROTLI) ]; }
	@diff -rq $(DIST) web/dist >/dev/null 2>&1 || { \
		rm -rf web/dist.new && cp -r $(DIST) web/dist.new && rm -rf web/dist && mv web/dist.new web/dist; }

# The page with Burn's WebGPU engine, for `make bench`, which asks for it unless its `--peers` leave `burn-webgpu` out.
# Compiling it takes minutes. It stays below cargo's target directory.
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

# Without optimisation both compile several times as fast, and are fast enough; without default features they cannot
# download (trunk would fetch tools of its own), which nothing here asks of them. The lock file of wasm-bindgen's command
# line does not match what it is published with.
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

# libFuzzer comes with a crate, its instrumentation with a compiler that is not stable.
fuzzer: $(TOOLS)/cargo-fuzz-$(CARGO_FUZZ)
	@rustup toolchain list | grep -q ^nightly || rustup toolchain install nightly --profile minimal

$(TOOLS)/cargo-fuzz-$(CARGO_FUZZ):
	$(INSTALL) cargo-fuzz --version $(CARGO_FUZZ) --locked
	rm -rf $@.build
	touch $@

# What makes the modules smaller, and what weighs the worker, from the distribution's packages; where nobody may install any without
# being asked for a password, the page does without.
optimiser:
	@command -v wasm-opt >/dev/null && command -v brotli >/dev/null || { \
		sudo=$$([ "$$(id -u)" = 0 ] || echo sudo -n); \
		$$sudo true 2>/dev/null && echo "installing binaryen and brotli" && \
		$$sudo apt-get update -qq && $$sudo apt-get install -y -qq binaryen brotli; } || \
		echo "without wasm-opt and brotli: page and worker stay as large as they were compiled, and unweighed"

# Chromium and its WebDriver from the distribution's packages.
browser:
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || { \
		sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
		echo "installing chromium and chromium-driver"; \
		$$sudo apt-get update -qq && $$sudo apt-get install -y -qq chromium chromium-driver; }

# A linker, a C library and an emulator for ARM from the distribution's packages; an ARM machine needs none.
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

# An adapter for the WebGPU engine on machines without a GPU: Mesa's emulation, lavapipe.
vulkan:
	@ls /usr/share/vulkan/icd.d/lvp_icd.*.json >/dev/null 2>&1 || { \
		sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
		echo "installing mesa-vulkan-drivers"; \
		$$sudo apt-get update -qq && $$sudo apt-get install -y -qq mesa-vulkan-drivers; }

# What the comparison takes from the distribution's packages. It names what it then still lacks, and does without.
peers:
	@packages=; lacks() { packages+=" $$1"; }; \
	python3 -c "import ensurepip, venv" 2>/dev/null || lacks python3-venv; \
	command -v npm >/dev/null || lacks npm; \
	[ -z "$$packages" ] || { \
		sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
		echo "installing$$packages"; \
		$$sudo apt-get update -qq && $$sudo apt-get install -y -qq $$packages; } || true

# What puts load on servers.
load:
	@command -v wrk >/dev/null || { \
		sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
		echo "installing wrk"; \
		$$sudo apt-get update -qq && $$sudo apt-get install -y -qq wrk; }

clean:
	cargo clean
	rm -rf web/dist web/index.*.html
