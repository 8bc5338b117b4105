#!/bin/bash -e
# Puts the agent into Raspberry Pi OS (the 64-bit branch of pi-gen). From pi-gen's `config`, exported:
#
#     EVENKEEL_SOURCE   a checkout of evenkeel, this file's
#     EVENKEEL_DEB      the agent's package for arm64
#     EVENKEEL_OPTIONS  options of packaging/image/customise.sh: --etc DIR, --first REPO, --image ARCHIVE, --name PREFIX
install -m 644 "${EVENKEEL_DEB:?a package for arm64}" "${ROOTFS_DIR}/tmp/evenkeel.deb"
on_chroot <<'END'
dpkg --install /tmp/evenkeel.deb
rm /tmp/evenkeel.deb
END
# Words, as a shell has them: no spaces in the paths.
# shellcheck disable=SC2086
"${EVENKEEL_SOURCE:?a checkout of evenkeel}/packaging/image/customise.sh" "${ROOTFS_DIR}" --system theirs ${EVENKEEL_OPTIONS:?--etc DIR at least}
