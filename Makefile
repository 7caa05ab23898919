# Verbs over Meson. `make help` lists them.
BUILD ?= build
CHECK ?= build-check
PY    ?= /usr/bin/python3

.PHONY: all help build deps demo check unit proto guest tidy format bench bench-instructions \
	fuzz-smoke check-tsan soak docs docs-check install clean

all: build

help:
	@sed -n 's/^##//p' Makefile

## make                     build/vhostd, release (packages: scripts/deps build)
build:
	@[ -f $(BUILD)/build.ninja ] || meson setup $(BUILD) -Dtests=false >/dev/null
	@ninja -C $(BUILD)

deps:
	scripts/deps check

## make demo                install what is missing, build, boot a real guest on a vhostd disk
demo:
	scripts/deps demo
	$(MAKE) build
	scripts/demo

## make check               install what is missing, build with ASan and UBSan, run every test
check: deps
	$(MAKE) tidy unit build
	$(MAKE) docs-check proto fuzz-smoke guest

## make unit                unit and protocol tests, ASan and UBSan
unit:
	@[ -f $(CHECK)/build.ninja ] || meson setup $(CHECK) -Dbuildtype=debug \
		-Db_lto=false -Db_sanitize=address,undefined -Dwerror=true >/dev/null
	ninja -C $(CHECK)
	meson test -C $(CHECK) --no-rebuild --print-errorlogs

## make proto               processes and sockets: the real binary driven by pytest
proto:
	VHOSTD=$(CHECK)/vhostd $(PY) -m pytest -q tests/proto

## make guest               real guests: QEMU under TCG, User Mode Linux
guest:
	VHOSTD=$(BUILD)/vhostd $(PY) -m pytest -q tests/guest

## make tidy                layers, sizes, banned calls, headers alone, stale docs
tidy:
	$(PY) scripts/tidy

## make format              clang-format on the sources
format:
	clang-format -i $$(git ls-files -co --exclude-standard '*.c' '*.h')

## make bench               vhostd against its peer and the floors, one run, medians and ratios
bench: build
	$(PY) bench/run.py

## make bench-instructions  instructions of the server per I/O, under callgrind
bench-instructions: build
	$(PY) bench/instructions.py

## make fuzz-smoke          each libFuzzer harness for 30 seconds on the kept corpus
fuzz-smoke:
	scripts/fuzz 30

## make check-tsan          unit tests of the threaded rooms under TSan
check-tsan:
	@[ -f build-tsan/build.ninja ] || meson setup build-tsan -Dbuildtype=debug \
		-Db_lto=false -Db_sanitize=thread -Dwerror=true -Dc_args=-Wno-tsan >/dev/null
	ninja -C build-tsan
	TSAN_OPTIONS=suppressions=$(CURDIR)/tests/tsan.supp \
		meson test -C build-tsan --no-rebuild --print-errorlogs --suite unit

## make soak                the long runs: hostile front-end, fuzzers (SOAK_SECONDS, default 1800)
soak: unit
	VHOSTD=$(CHECK)/vhostd HOSTILE_SECONDS=$${SOAK_SECONDS:-1800} \
		$(PY) -m pytest -q tests/proto -k hostile
	scripts/fuzz $${SOAK_SECONDS:-1800}

## make docs                print the generated pages from the binary
docs: build
	$(BUILD)/vhostd --help-devices >docs/devices.md
	$(BUILD)/vhostd --help-rpc >docs/rpc.md
	$(BUILD)/vhostd --help-metrics >docs/metrics.md
	$(BUILD)/vhostctl completion bash >docs/vhostctl.bash

docs-check: build
	@$(BUILD)/vhostd --help-devices | diff -u docs/devices.md - || \
		{ echo "docs/devices.md is stale: make docs"; exit 1; }
	@$(BUILD)/vhostd --help-rpc | diff -u docs/rpc.md - || \
		{ echo "docs/rpc.md is stale: make docs"; exit 1; }
	@$(BUILD)/vhostd --help-metrics | diff -u docs/metrics.md - || \
		{ echo "docs/metrics.md is stale: make docs"; exit 1; }
	@$(BUILD)/vhostctl completion bash | diff -u docs/vhostctl.bash - || \
		{ echo "docs/vhostctl.bash is stale: make docs"; exit 1; }

## make install             DESTDIR and prefix as Meson has them
install: build
	meson install -C $(BUILD)

clean:
	rm -rf $(BUILD) $(CHECK) build-tsan build-fuzz
