# `make help` lists the targets. Only make itself is required: `deps` installs the rest.

CARGO ?= cargo
PREFIX ?= /usr/local
DESTDIR ?=
ARGS ?=
TARGET ?=
TARGET_DIR = $(or $(CARGO_TARGET_DIR),target)

.PHONY: help deps build run quick test test-kernels soak check bench docs install deb static check-packages clean
.DEFAULT_GOAL := help

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## install missing packages (Debian, Ubuntu, Fedora)
	@scripts/install-deps

build: deps ## build the release binary: target/release/ebpf-run
	$(CARGO) build --release

# With the profile of the tests, which takes a fraction of the time of `make build`
run: deps ## build, then capture slow block I/O for 20 s (other options: ARGS="--duration 5s")
	$(CARGO) build
	@scripts/demo $(ARGS)

quick: ## run tests without root, in seconds: units, golden files, wrong configs; after each edit
	$(CARGO) test --lib --test integration -- --skip live:: --skip fuzz:: --skip a_fault_hides_no_other

# --tests: no doc tests. The runner runs only the live tests as root.
test: deps ## run all tests that this machine can run; the live ones as root (sudo)
	$(CARGO) test --tests --config "target.'cfg(unix)'.runner='scripts/test-runner'"

test-kernels: deps ## run every program and config on Debian's kernels 5.10, 6.1, 6.12 and the newest, in virtual machines
	scripts/test-kernels

# Both parts have --time, --seed, --windows and --window; scripts/soak and scripts/hostile have more options
soak: build ## run with a hostile user (10 minutes), then with injected faults (20 minutes); as root (other options: ARGS="--time 60")
	scripts/hostile $(ARGS)
	scripts/soak $(ARGS)

check: deps ## check formatting and lints, as CI does
	scripts/check-project
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings

# Takes some minutes. As root it also measures the cost of tracing a flood.
bench: deps ## run the benchmarks (docs/explanation/performance.md)
	$(CARGO) bench

docs: ## build the documentation as a website with search: target/book/index.html
	@scripts/docs

# Builds nothing: root may have no cargo.
install: ## install what `make build` built: PREFIX=/usr/local, DESTDIR=
	@test -x $(TARGET_DIR)/release/ebpf-run || { echo "run \`make build\` first" >&2; exit 1; }
	install -D -m 755 $(TARGET_DIR)/release/ebpf-run $(DESTDIR)$(PREFIX)/bin/ebpf-run
	install -d $(DESTDIR)$(PREFIX)/share/ebpf-run/probes.d
	install -m 644 probes.d/*.yaml $(DESTDIR)$(PREFIX)/share/ebpf-run/probes.d
	install -d $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/bash-completion/completions \
		$(DESTDIR)$(PREFIX)/share/zsh/site-functions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	$(TARGET_DIR)/release/ebpf-run man $(DESTDIR)$(PREFIX)/share/man/man1
	$(TARGET_DIR)/release/ebpf-run completions bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/ebpf-run
	$(TARGET_DIR)/release/ebpf-run completions zsh >$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_ebpf-run
	$(TARGET_DIR)/release/ebpf-run completions fish >$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/ebpf-run.fish

# docs/how-to/install.md lists its content
deb: build ## build a Debian package: target/debian/
	scripts/deb $(TARGET_DIR)/debian

static: deps ## build a binary without shared libraries: target/TRIPLE/release/ebpf-run (for arm64: TARGET=aarch64-unknown-linux-gnu)
	scripts/static $(TARGET)

# Needs root, and about 300 MB for a Debian root in target/fresh-root
check-packages: deb static ## test the package in a minimal Debian, the static binary in an empty root; as root
	scripts/check-packages $(TARGET_DIR)/fresh-root

clean: ## remove all build output
	$(CARGO) clean
