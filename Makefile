# A short front door to CMake; `make help` lists what there is.
BUILD   ?= build
PREFIX  ?= /usr/local
# A warning stops the build in CI only: a compiler newer than ours must not keep a user from building.
WERROR  ?= $(if $(CI),ON,OFF)
JOBS    ?= $(shell nproc 2>/dev/null || echo 2)
FUZZ_SECONDS ?= 60

generator = $(if $(wildcard $(1)/CMakeCache.txt),,$(if $(shell command -v ninja),-G Ninja))
compiler  = $(if $(filter default undefined,$(origin CC)),,-DCMAKE_C_COMPILER=$(CC))
configure = cmake -S . -B $(1) $(call generator,$(1)) --log-level=WARNING -DQUERN_WERROR=$(WERROR) $(2)
compile   = cmake --build $(1) --parallel $(JOBS)

.PHONY: all test test-long demo bench bench-peers peers fuzz check format install clean help setup-build setup-demo setup-test
all: setup-build ## build the program (build/quern) and the library
	@$(call configure,$(BUILD),$(compiler)) >/dev/null
	@$(call compile,$(BUILD)) --target product

demo: setup-demo all ## quantize the built-in checkpoint and let it write Python
	@python3 tools/demo.py $(BUILD)/quern

test: setup-test ## unit, command-line and structural tests, plain and under ASan/UBSan
	@$(call configure,$(BUILD),$(compiler)) >/dev/null && $(call compile,$(BUILD))
	@$(call configure,build-asan,$(compiler) -DQUERN_SANITIZE=address) >/dev/null && $(call compile,build-asan)
	@python3 tests/run.py plain=$(BUILD) asan=build-asan

test-long: setup-test ## second compiler, TSan, other machines under an emulator (needs clang; others if there)
	@tests/run_long.sh $(JOBS)

bench: setup-demo all ## speed on this machine: the built-in model, or MODELS="a.gguf b.gguf"
	@python3 tools/bench.py $(BUILD)/quern $(MODELS)

bench-peers: all ## llama.cpp on the same file in turns, ratios: MODEL=a.gguf [ARGS="-p 512 -n 64 -d 0 --sequences 1,8"] (after make peers)
	@python3 tools/peers/bench_peers.py $(ARGS) $(BUILD)/quern $(MODEL)

peers: all ## llama.cpp and mlx-lm read our files; their greedy tokens become goldens
	@tools/peers/run.sh $(BUILD)/quern

fuzz: setup-test ## every parser under libFuzzer, FUZZ_SECONDS (60) each (needs clang)
	@tests/run_fuzz.sh $(FUZZ_SECONDS) $(JOBS)

check: ## structure and style only, no build
	@python3 tools/check_structure.py
	@tools/format.sh --check

format: ## rewrite C files in the project's style (clang-format)
	@tools/format.sh

install: all ## PREFIX=/usr/local, DESTDIR honoured
	@cmake --install $(BUILD) --prefix $(PREFIX)

clean: ## remove everything that was built
	rm -rf build build-*

help:
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

setup-build setup-demo setup-test: setup-%:
	@tools/setup.sh $*
