# Builds from the release's source tarball, which brings its crates: no network after do_fetch. Rust 1.88 or newer; older
# branches have it in meta-lts-mixins. packaging/recipes.sh writes the tarball's checksum into this file.
SUMMARY = "Keeps a device at a signed git branch"
DESCRIPTION = "Follows one branch of a git repository, checks who signed it, and keeps the device's containers and \
configuration files exactly as the branch says. A change that does not turn out healthy is taken back by the device itself."
HOMEPAGE = "https://releases.example.com/evenkeel"
SECTION = "admin"
LICENSE = "Apache-2.0 | MIT"
LIC_FILES_CHKSUM = "file://LICENSE;md5=79ea53dfc19acc4bc823dfc5e63e261d"

# Where you keep the release: a mirror of your own, or file:///path.
EVENKEEL_RELEASES ?= "https://releases.example.com/evenkeel"
SRC_URI = "${EVENKEEL_RELEASES}/evenkeel-${PV}-vendored.tar.xz"
SRC_URI[sha256sum] = "@SHA256@"

inherit cargo

CARGO_VENDORING_DIRECTORY = "${S}/VENDOR"
CARGO_BUILD_FLAGS:append = " --package evenkeel"

do_install() {
    sh ${S}/packaging/install.sh --destdir ${D} --prefix ${prefix} \
        --binary ${B}/target/${CARGO_TARGET_SUBDIR}/evenkeel
    # Enabled by a link, and not by the systemd class, whose scripts restart a service at each upgrade.
    install -d ${D}${sysconfdir}/systemd/system/multi-user.target.wants
    ln -s ${systemd_system_unitdir}/evenkeel.service ${D}${sysconfdir}/systemd/system/multi-user.target.wants/
}

# An upgrade on the device: the running agent ends at its next idle moment, and the new one is started.
pkg_postinst_ontarget:${PN}() {
    if [ -d /run/systemd/system ]; then
        systemctl daemon-reload
        pid=$(systemctl show --property=MainPID --value evenkeel.service)
        [ "${pid:-0}" -eq 0 ] || kill -USR1 "$pid"
    fi
}

FILES:${PN} += "${systemd_system_unitdir} ${nonarch_libdir}/systemd ${nonarch_libdir}/tmpfiles.d ${nonarch_libdir}/udev ${nonarch_libdir}/evenkeel"
CONFFILES:${PN} = "${sysconfdir}/default/evenkeel"
# ssh remotes need an ssh client, containers an engine: the image's choice.
RRECOMMENDS:${PN} = "ca-certificates"
