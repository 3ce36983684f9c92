# Two commands do everything on a fresh Debian, as root:
#   make demo   upgrades a live MediaWiki in a parallel universe; ends in a report
#   make test   installs what the tests need and runs all of them
SHELL := /bin/bash
GO := $(shell command -v go || echo /usr/local/go/bin/go)
export PATH := $(dir $(GO)):$(PATH)

.PHONY: all demo test check soak plan-size unit bootstrap build install fuzz clean help bench-transfer

all: build

help:
	@sed -n 's/^# \?//p;/^SHELL/q' Makefile

bootstrap:
	@scripts/bootstrap

build: bootstrap
	@mkdir -p bin
	go build -o bin/imago ./cmd/imago
	CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o bin/imago-agent ./cmd/imago-agent

# Builds first, then hands the terminal over: Ctrl-C ends the demo, which cleans up.
demo: build
	@exec bin/imago lab demo --system wiki --out out

test: build
	@scripts/test

check: build
	@scripts/test check

# Rows that flow under faults for as long as SOAK says, on real VMs, compared row by row at the end.
SOAK ?= 10m
soak: build
	IMAGO_SOAK=$(SOAK) CI=true go test -v -timeout 2h -run '^TestFlow$$' ./test

# How much of a wiki upgrade is the application's own, against imago's lines that ran.
plan-size: build
	@scripts/plan-size

# The transfer beside its peers, on private MariaDB servers; about four minutes.
bench-transfer:
	@scripts/bench-transfer

install: build
	install -D -m 755 bin/imago $(DESTDIR)/usr/bin/imago
	install -D -m 755 bin/imago-agent $(DESTDIR)/usr/lib/imago/imago-agent
	bin/imago completion bash | install -D -m 644 /dev/stdin $(DESTDIR)/usr/share/bash-completion/completions/imago

clean:
	rm -rf bin out
