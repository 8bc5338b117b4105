################################################################################
#
# evenkeel
#
################################################################################

# The release's source tarball, which brings its crates: nothing is fetched but it.
EVENKEEL_VERSION = 0.1.0
EVENKEEL_SITE = https://releases.example.com/evenkeel
EVENKEEL_SOURCE = evenkeel-$(EVENKEEL_VERSION)-vendored.tar.xz
EVENKEEL_LICENSE = Apache-2.0 or MIT
EVENKEEL_LICENSE_FILES = LICENSE
EVENKEEL_CARGO_BUILD_OPTS = --package evenkeel

define EVENKEEL_INSTALL_TARGET_CMDS
	$(SHELL) $(@D)/packaging/install.sh --destdir $(TARGET_DIR) --prefix /usr \
		$(if $(BR2_INIT_SYSTEMD),,--no-systemd) \
		--binary $(@D)/target/$(RUSTC_TARGET_NAME)/$(if $(BR2_ENABLE_DEBUG),debug,release)/evenkeel
endef

# systemd enables it by the preset that comes with it.
define EVENKEEL_INSTALL_INIT_SYSV
	$(INSTALL) -D -m 0755 $(@D)/packaging/buildroot/evenkeel/S95evenkeel \
		$(TARGET_DIR)/etc/init.d/S95evenkeel
endef

$(eval $(cargo-package))
