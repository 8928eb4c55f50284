# `make demo` needs only Rust and a C compiler. `make deps test` installs the real servers and tools that the tests use.

CARGO ?= cargo
PREFIX ?= /usr/local
TARGET := $(or $(CARGO_TARGET_DIR),target)
IMAGE := oci:fixtures/demo

# What the tests need in addition to Rust, as WHAT:PACKAGE. A WHAT with a leading slash is a file, otherwise a program.
NEEDED := docker-registry:docker-registry skopeo:skopeo umoci:umoci htpasswd:apache2-utils openssl:openssl \
	jq:jq tar:tar gzip:gzip zstd:zstd pigz:pigz mmdebstrap:mmdebstrap setfattr:attr script:bsdutils dbus-run-session:dbus-daemon \
	gnome-keyring-daemon:gnome-keyring \
	docker-credential-secretservice:golang-docker-credential-helpers gpg:gnupg pass:pass \
	/usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring

# Prints the missing packages. On Debian some programs are not in the PATH of ordinary users.
MISSING = PATH="$$PATH:/usr/sbin:/sbin"; for pair in $(NEEDED); do part=$${pair%%:*}; \
	[ "$${part\#/}" != "$$part" ] && [ -e "$$part" ] || command -v "$$part" >/dev/null || echo "$${pair\#*:}"; done

# A real S3 server for the tests of shared TOCs, installed by pip because Debian has none.
MOTO := $(TARGET)/moto
export PATH := $(PATH):$(abspath $(MOTO)/bin)

# The largest accepted number of crates in the bare engine.
CRATES := 180

.DEFAULT_GOAL := help
# `make -j deps test` must not test before everything is installed.
.NOTPARALLEL:
.PHONY: help demo deps test lint crates audit bench wan build install

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

demo: ## Build quickly, then look into the image in fixtures/: no network
	$(CARGO) build --profile demo --locked --no-default-features --features cli
	$(TARGET)/demo/layerslayer peek $(IMAGE)
	$(TARGET)/demo/layerslayer peek $(IMAGE) --rootfs
	$(TARGET)/demo/layerslayer carve $(IMAGE) /etc/passwd

deps: ## Install what the tests need (Debian or Ubuntu, as root or through sudo)
	@set -e; missing=$$($(MISSING)); \
	if [ -z "$$missing" ]; then echo "deps: all packages are installed"; exit 0; fi; \
	if ! command -v apt-get >/dev/null; then \
		echo "deps: no apt-get here; please install:" $$missing >&2; exit 1; fi; \
	root=; if [ "$$(id -u)" != 0 ]; then root=sudo; fi; \
	install="$$root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends"; \
	echo "deps: installing" $$missing; \
	$$install $$missing || { $$root apt-get update; $$install $$missing; }
	@command -v moto_server >/dev/null && exit 0; set -e; root=; if [ "$$(id -u)" != 0 ]; then root=sudo; fi; \
	python3 -c 'import ensurepip, venv' 2>/dev/null || $$root apt-get install -y --no-install-recommends python3-venv; \
	echo "deps: installing moto in $(MOTO)"; \
	python3 -m venv $(MOTO); $(MOTO)/bin/pip install --quiet 'moto[server]==5.*'

test: ## Run all tests; fail if a server or tool is missing
	@missing=$$($(MISSING)); if [ -n "$$missing" ]; then \
		echo "test: missing:" $$missing "(run \`make deps\`)" >&2; exit 1; fi
	@command -v moto_server >/dev/null || { echo "test: missing: moto (run \`make deps\`)" >&2; exit 1; }
	$(CARGO) test --locked --features object-store

lint: crates ## Formatting, clippy, documentation, dependencies
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets --all-features -- -D warnings
	$(CARGO) clippy --locked --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --all-features
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
		set -x; $(CARGO) deny --locked check bans licenses sources; \
	else echo "lint: no cargo-deny; tests/dependencies.rs checks licences without it"; fi

crates: ## Count the crates of the bare engine
	@set -e; count=$$($(CARGO) tree --locked --no-default-features -e normal,build --prefix none --format '{p}' \
		| sed 's/ (.*//' | sort -u | wc -l); \
	echo "crates: $$count of $(CRATES) without optional features"; test "$$count" -le $(CRATES)

audit: ## Check dependencies against the advisory database (network)
	$(CARGO) deny --locked check advisories

bench: ## Measure the parts
	$(CARGO) bench --locked --features internals

wan: ## Measure beside other tools through a slow link, and update BENCHMARKS.md (minutes, network)
	$(CARGO) bench --locked --bench wan -- --write

build: ## Build the optimised program
	$(CARGO) build --release --locked

install: ## Install to PREFIX (/usr/local), also as peek, carve and docker-credential-layerslayer; run `make build` first if sudo has no cargo
	@if command -v $(CARGO) >/dev/null; then $(MAKE) --no-print-directory build; fi
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 755 $(TARGET)/release/layerslayer $(DESTDIR)$(PREFIX)/bin/layerslayer
	ln -sf layerslayer $(DESTDIR)$(PREFIX)/bin/peek
	ln -sf layerslayer $(DESTDIR)$(PREFIX)/bin/carve
	ln -sf layerslayer $(DESTDIR)$(PREFIX)/bin/docker-credential-layerslayer
