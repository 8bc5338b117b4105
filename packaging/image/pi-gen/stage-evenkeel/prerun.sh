#!/bin/bash -e
# pi-gen's own way: a stage begins with what the one before it left.
if [ ! -d "${ROOTFS_DIR}" ]; then
    copy_previous
fi
