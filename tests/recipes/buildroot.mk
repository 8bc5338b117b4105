# What Buildroot's infrastructure gives a package, by the same names, and the steps that it runs: for tests/recipes.sh.
# RECIPE, TARBALL, BINARY and WORK come from there.
RUSTC_TARGET_NAME := the-target
TARGET_DIR := $(WORK)/target
INSTALL := install
SHELL := /bin/bash

cargo-package = $(eval EVENKEEL_DIR := $(WORK)/build/evenkeel-$(EVENKEEL_VERSION))
include $(RECIPE)/evenkeel.mk

.PHONY: all source build install
all: install
	@echo "buildroot: make read evenkeel.mk; the tarball is the one that evenkeel.hash names; installed $$(cd $(TARGET_DIR) && find . -type f | wc -l) files"

source:
	@test "$(notdir $(TARBALL))" = "$(EVENKEEL_SOURCE)"
	@cd $(dir $(TARBALL)) && awk '$$3 == "$(EVENKEEL_SOURCE)" { print $$2 "  " $$3 }' $(RECIPE)/evenkeel.hash | sha256sum --check --strict --quiet
	@mkdir -p $(EVENKEEL_DIR)
	@tar --extract --strip-components=1 --directory $(EVENKEEL_DIR) --file $(TARBALL)
	@cd $(EVENKEEL_DIR) && awk '$$3 == "$(EVENKEEL_LICENSE_FILES)" { print $$2 "  " $$3 }' $(RECIPE)/evenkeel.hash | sha256sum --check --strict --quiet
	@test -d $(EVENKEEL_DIR)/VENDOR
	@test "$(EVENKEEL_CARGO_BUILD_OPTS)" = "--package evenkeel"

build: source
	@install -D -m 755 $(BINARY) $(EVENKEEL_DIR)/target/$(RUSTC_TARGET_NAME)/release/evenkeel

install: @D = $(EVENKEEL_DIR)
install: build
	@mkdir -p $(TARGET_DIR)
	$(EVENKEEL_INSTALL_TARGET_CMDS)
	$(if $(BR2_INIT_SYSTEMD),,$(EVENKEEL_INSTALL_INIT_SYSV))
	@test -x $(TARGET_DIR)/usr/bin/evenkeel
	@test -e $(TARGET_DIR)/$(if $(BR2_INIT_SYSTEMD),usr/lib/systemd/system/evenkeel.service,etc/init.d/S95evenkeel)
