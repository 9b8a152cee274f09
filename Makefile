# Entry point for all tasks. Every target installs what it needs: tools below cargo's target directory, and packages of the
# distribution with scripts/setup.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup run install page page-burn kernels test checked neon lint soak fuzz bench bench-training bench-server conformance cuda check-gpu clean

export CARGO_TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
RELEASE := $(CARGO_TARGET_DIR)/release
NPM := $(CARGO_TARGET_DIR)/npm

# Without a desktop session Mesa prints a warning about this variable, although it does not need it.
export XDG_RUNTIME_DIR ?= /tmp

help:
	@echo "make run           build the server and the page, and serve the bundled models on http://$(LISTEN)"
	@echo "make run MODEL=resnet18@torchvision   the same with published weights (see trainer fetch --list)"
	@echo "make install       install trainer and server into ~/.cargo/bin"
	@echo "make setup         install the packages of the distribution that other targets need"
	@echo "make test          run every test, including those in a browser and on emulated NEON"
	@echo "make lint          run rustfmt and clippy, and check licences"
	@echo "make page          build only the page, into web/dist"
	@echo "make soak          run the long tests: 800 photos, fifty killed training runs, half an hour of load"
	@echo "make fuzz          fuzz every parser of untrusted input, ten minutes each"
	@echo "make conformance   test the server with Triton's client and schemathesis, and the trainer with TensorBoard, scikit-learn and PyTorch"
	@echo "make cuda          build trainer and server for NVIDIA GPUs"
	@echo "make check-gpu     test the GPU code path: compile for CUDA, run on Vulkan (emulated without a GPU)"
	@echo "make bench         compare inference with other engines, natively and in a browser, and training with PyTorch"
	@echo "make bench-training  compare only training"
	@echo "make bench-server  compare the server with LitServe and mosec under load"

# Installs the packages that all targets need, and shows their purposes. Targets install those that they need themselves.
setup:
	@scripts/setup --list
	@scripts/setup

# `make run LISTEN=0.0.0.0:80 MODELS=models` opens the server to the network, with other models. `make run
# MODEL=resnet18@torchvision` or `MODEL=hf://OWNER/REPO` fetches these weights first, or takes them from the cache, and
# opens the page on them; this needs the trainer, and compiling it with Burn takes ten minutes on two cores.
# `make run WORKER_FEATURES=burn-webgpu` builds the page with Burn's WebGPU engine in its worker, for comparison; open
# `/?engine=webgpu`.
LISTEN ?= 127.0.0.1:8080
MODELS ?= checkpoints
MODEL ?=
WORKER_FEATURES ?=
FETCHED := $(CARGO_TARGET_DIR)/fetched
BUILD_PAGE := cargo run --quiet --locked --profile tools --package build-page --

run:
	@scripts/setup wasm
	$(if $(MODEL),cargo build --release && $(RELEASE)/trainer fetch '$(MODEL)' > $(FETCHED))
	@WORKER_FEATURES='$(WORKER_FEATURES)' scripts/run --listen $(LISTEN) --models $(MODELS) \
		$(if $(MODEL),--model '$(MODEL)'="$$(cat $(FETCHED))" --default '$(MODEL)')

# The installed programs contain the bundled checkpoints, and the server contains the page.
install: page
	cargo install --locked --path trainer
	cargo install --locked --path server

# The page that the server embeds, optimised for size.
WASM_OPT := $(NPM)/node_modules/.bin/wasm-opt
page: $(WASM_OPT)
	$(BUILD_PAGE) --wasm-opt $(WASM_OPT)

.PHONY: page-tools
page-tools:
	@scripts/setup wasm page

$(WASM_OPT): web/build/package-lock.json | page-tools
	@mkdir -p $(NPM) && cp web/build/package.json web/build/package-lock.json $(NPM)
	npm ci --prefix $(NPM) --no-audit --no-fund --loglevel=error
	@touch $@

# The page with Burn's WebGPU engine, for `make bench`, unless its `--peers` exclude `burn-webgpu`.
page-burn:
	@scripts/setup wasm
	$(BUILD_PAGE) --output $(CARGO_TARGET_DIR)/dist-burn --worker-features burn-webgpu

# The CPU engine as a WebAssembly module, for a test in the browser.
kernels:
	@scripts/setup wasm
	cargo build --profile web --target wasm32-unknown-unknown --package simd128 --examples

test: page kernels
	@scripts/setup test
	cargo build --release --all-targets
	cargo test --release --all-targets
	cargo test --release --doc
	cargo test --profile tools --package build-page --package licences
	@$(MAKE) --no-print-directory checked neon

# Tests the CPU engine's kernels on every instruction set of this machine again, with bounds and overflow checks.
CHECKED := --profile checked --package model --test cpu
checked:
	cargo test $(CHECKED)

# Tests the CPU engine on emulated NEON. Emulation is slow, so only the tests that run every kernel are used.
ifeq ($(filter aarch64 arm64,$(shell uname -m)),)
NEON := $(CHECKED) --target aarch64-unknown-linux-gnu
neon: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER := aarch64-linux-gnu-gcc
neon: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER := qemu-aarch64 -L /usr/aarch64-linux-gnu
neon:
	@scripts/setup arm
	@cargo test $(NEON) -- --list | grep on_every_kernel
	cargo test $(NEON) -- on_every_kernel
endif

lint:
	@scripts/setup wasm
	cargo fmt --all --check
	cargo fmt --manifest-path tests/peers/rust/Cargo.toml --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	@cargo fetch --locked --quiet # cargo's metadata covers the packages for all platforms
	scripts/check-features
	cargo run --quiet --locked --profile tools --package licences
	cargo clippy --release --all-targets -- -D warnings
	cargo clippy --profile tools --package build-page --package licences --all-targets -- -D warnings
	cargo clippy --profile web --target wasm32-unknown-unknown -p page -p worker -p simd128 --all-targets -- -D warnings

# Long tests: networks with bounds and overflow checks, predictions for all validation photos compared with PyTorch's, training
# runs that are killed and resumed fifty times, and half an hour of mixed load for the server.
SOAK_SECONDS ?= 1800
soak:
	@scripts/setup test
	cargo build --release
	cargo test --profile checked --package model --test cpu_networks
	SHORTCUT_PHOTOS=800 cargo test --release --test fidelity -- --nocapture
	SHORTCUT_KILLS=50 cargo test --release --test resume -- --nocapture killed
	SHORTCUT_SOAK_SECONDS=$(SOAK_SECONDS) cargo test --release --test soak -- --nocapture

# `make fuzz FUZZ='image json' FUZZ_SECONDS=60` is a short run; fuzz/run also reproduces failures and extends the corpus.
FUZZ_SECONDS ?= 600
fuzz:
	SECONDS_EACH=$(FUZZ_SECONDS) fuzz/run $(FUZZ)

# `make bench BENCH='--rounds 3 --cases resnet18:1 --peers ncnn,onnxruntime'` and `make bench-server BENCH='--clients 8,64
# --seconds 5 --workload tensor'` are short runs; `BENCH=--help` lists the options.
bench: page
	@scripts/setup test bench
	cargo build --release
	@python3 -B tests/peers/bench.py $(CARGO_TARGET_DIR) $(BENCH)
	@$(if $(BENCH),,python3 -B tests/peers/bench_training.py $(CARGO_TARGET_DIR))

# `make bench-training BENCH='--rounds 1 --cases resnet18 --variants eager-f32'` is a short run.
bench-training:
	@scripts/setup bench
	cargo build --release
	@exec python3 -B tests/peers/bench_training.py $(CARGO_TARGET_DIR) $(BENCH)

bench-server:
	@scripts/setup bench load
	cargo build --release
	@exec python3 -B tests/peers/bench_server.py $(CARGO_TARGET_DIR) $(BENCH)

# Tests with third-party tools: the server with NVIDIA's client of the Open Inference Protocol and with schemathesis, which
# generates requests from the OpenAPI document; the event files of training runs with TensorBoard; the figures of evaluations with
# scikit-learn; and feature maps, pruned networks and exports with PyTorch, if `make bench` has installed it.
# `make conformance CONFORMANCE='--only client'` runs one of them.
CONFORMANCE_DIR := $(CARGO_TARGET_DIR)/conformance
conformance: $(CONFORMANCE_DIR)/made
	cargo build --release
	@exec $(CONFORMANCE_DIR)/venv/bin/python -B tests/conformance/conformance.py $(RELEASE) $(CONFORMANCE)

$(CONFORMANCE_DIR)/made: tests/conformance/requirements.txt
	@scripts/setup bench
	mkdir -p $(CONFORMANCE_DIR)
	python3 -m venv --clear $(CONFORMANCE_DIR)/venv
	$(CONFORMANCE_DIR)/venv/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

# Builds trainer and server for NVIDIA GPUs. Where LLVM cannot be downloaded, LLVM_STUB names a replacement for the
# crate cubecl-llvm: kernels are compiled by NVRTC, and LLVM is not used. The lock file is restored afterwards.
LLVM_STUB ?=
GPU_DIR := $(CARGO_TARGET_DIR)/gpu
KEEP_LOCK = mkdir -p $(CARGO_TARGET_DIR); cp Cargo.lock $(CARGO_TARGET_DIR)/Cargo.lock.kept; trap 'mv $(CARGO_TARGET_DIR)/Cargo.lock.kept Cargo.lock' EXIT;
WITH_CUDA = --release -p trainer -p server --features trainer/cuda,server/cuda --target-dir $(GPU_DIR) \
	$(if $(LLVM_STUB),--config 'patch.crates-io.cubecl-llvm.path="$(LLVM_STUB)"')
cuda:
	@$(if $(LLVM_STUB),$(KEEP_LOCK)) cargo build $(WITH_CUDA)

# Tests the GPU code path as far as the machine allows: compiles for CUDA, and compares training steps of Burn's kernels
# on Vulkan (emulated if necessary), and on an NVIDIA GPU if there is one, with steps on the CPU.
check-gpu: cuda
	@scripts/setup test
	cargo test --release -p trainer --features wgpu --target-dir $(GPU_DIR) --bin trainer -- --test-threads 1 learning::gpu
	@! command -v nvidia-smi >/dev/null || { $(if $(LLVM_STUB),$(KEEP_LOCK)) \
		SHORTCUT_GPU=cuda cargo test $(WITH_CUDA) --bin trainer -- --test-threads 1 learning::gpu; }

clean:
	cargo clean
	rm -rf web/dist
