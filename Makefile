# The two commands: `make demo` and `make test`. Everything they build or install for themselves goes to the cache.
KITH_CACHE ?= $(HOME)/.cache/kith
# Build output belongs to one set of dependencies and one compiler.
BUILD_KEY := $(shell { cat Cargo.lock; rustc --version 2>/dev/null; } | sha256sum | cut -c1-16)
export KITH_CACHE
export CARGO_TARGET_DIR ?= $(KITH_CACHE)/target-$(BUILD_KEY)
export PATH := $(KITH_CACHE)/tools/bin:$(PATH):/usr/sbin:/sbin
ifdef CI
# A checkout that is built once has no use for half the disk.
export CARGO_INCREMENTAL := 0
endif
STAGE := .ci/stage
# A first build takes minutes: whoever watches sees it move.
QUIETLY := $(shell [ -t 2 ] || echo --quiet)

.PHONY: demo test audit release

## Shows the main job with real applications and a real capture.
demo:
	@$(STAGE) setup .ci/setup demo
	@$(STAGE) build cargo build --release $(QUIETLY) -p kith-proxy -p kith-ca-agent -p kith-tests --bins
	@$(CARGO_TARGET_DIR)/release/kith-demo

## Everything that must hold before a change lands.
test:
	@$(STAGE) setup .ci/setup test
	@$(STAGE) format cargo fmt --all --check
	@$(STAGE) deny cargo deny --log-level error check bans licenses sources
	@$(STAGE) build cargo build --workspace --all-targets --quiet
	@$(STAGE) tests cargo nextest run --workspace
	@$(STAGE) doctests cargo test --workspace --doc --quiet
	@$(STAGE) lint cargo clippy --workspace --all-targets --quiet -- -D warnings
	@$(STAGE) docs env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet

## Known vulnerabilities, where their database can be reached.
audit:
	@.ci/setup test
	cargo deny check advisories

## Optimised programs.
release:
	@.ci/setup build
	cargo build --release -p kith-proxy -p kith-ca-agent
	@ls $(CARGO_TARGET_DIR)/release/kith-proxy $(CARGO_TARGET_DIR)/release/kith-ca-agent
