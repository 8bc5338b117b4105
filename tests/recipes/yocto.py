"""Reads evenkeel's recipe with BitBake's own parser, fetches and unpacks with its own fetcher, and runs do_install.

    python yocto.py RECIPE RELEASES BINARY WORK

RELEASES is the folder with the source tarball, BINARY what do_compile would have left. BitBake is the real one (PyPI's
bitbake-setup brings it); the classes of OpenEmbedded are not to be had there, so what the recipe takes of them stands
here, by the same names.
"""

import os
import shutil
import sys
import types

# Parts of BitBake that its package leaves out. Nothing here uses them.
for name in ("hashserv", "hashserv.client", "prserv"):
    sys.modules.setdefault(name, types.ModuleType(name))

import bb.build
import bb.data
import bb.fetch2
import bb.parse
import bb.utils
from bb.parse.parse_py import BBHandler

recipe, releases, binary, work = map(os.path.abspath, sys.argv[1:])

CONF = f"""
WORKDIR = "{work}/work"
UNPACKDIR = "${{WORKDIR}}"
TMPDIR = "{work}/tmp"
T = "${{WORKDIR}}/temp"
S = "${{WORKDIR}}/${{BP}}"
D = "${{WORKDIR}}/image"
DL_DIR = "{work}/downloads"
BB_STRICT_CHECKSUM = "1"
BB_NO_NETWORK = "1"
PERSISTENT_DIR = "{work}/cache"
CACHE = "{work}/cache"
FETCHCMD_wget = "false"
PATH = "{os.environ["PATH"]}"
PN = "evenkeel"
PV = "${{@os.path.basename(d.getVar('FILE')).removesuffix('.bb').split('_')[1]}}"
BP = "${{PN}}-${{PV}}"
OVERRIDES = "linux:${{PN}}"
FILESPATH = "{work}"
prefix = "/usr"
sysconfdir = "/etc"
nonarch_libdir = "${{prefix}}/lib"
systemd_system_unitdir = "${{nonarch_libdir}}/systemd/system"
EVENKEEL_RELEASES = "file://{releases}"
"""
# What cargo.bbclass says of where a program is built.
CARGO = """
B = "${WORKDIR}/build"
RUST_HOST_SYS = "the-target"
CARGO_TARGET_SUBDIR = "${RUST_HOST_SYS}/release"
CARGO_VENDORING_DIRECTORY ?= "${WORKDIR}/cargo_home/bitbake"
CARGO_BUILD_FLAGS = "-v --frozen --target ${RUST_HOST_SYS} --release --manifest-path=${S}/Cargo.toml"
"""


def expect(what, right):
    if not right:
        sys.exit(f"yocto: {what}")


os.makedirs(f"{work}/conf", exist_ok=True)
os.makedirs(f"{work}/classes", exist_ok=True)
for name, text in (
    ("conf/bitbake.conf", CONF),
    ("classes/base.bbclass", ""),
    ("classes/cargo.bbclass", CARGO),
):
    with open(f"{work}/{name}", "w") as file:
        file.write(text)
d = bb.data.init()
d.setVar("BBPATH", work)
d.setVar("__bbclasstype", "recipe")
d = bb.parse.handle(f"{work}/conf/bitbake.conf", d, baseconfig=True)
bb.parse.init_parser(d)
d = bb.parse.handle(recipe, d)[""]

for name in ("SUMMARY", "LICENSE", "LIC_FILES_CHKSUM", "SRC_URI", "do_install", "pkg_postinst_ontarget:evenkeel"):
    expect(f"the recipe has no {name}", d.getVar(name))
flags = d.getVar("CARGO_BUILD_FLAGS").split()
expect(f"cargo is not told of the package: {flags}", flags[-2:] == ["--package", "evenkeel"])

os.makedirs(d.getVar("DL_DIR"))
os.makedirs(d.getVar("WORKDIR"))
fetcher = bb.fetch2.Fetch(d.getVar("SRC_URI").split(), d)
fetcher.download()
for url in fetcher.urls:
    bb.fetch2.verify_checksum(fetcher.ud[url], d, localpath=fetcher.localpath(url))
fetcher.unpack(d.getVar("WORKDIR"))
source = d.getVar("S")
expect(f"the tarball has no {source}", os.path.isfile(f"{source}/Cargo.lock"))
expect("there are no crates where the recipe says", os.path.isdir(d.getVar("CARGO_VENDORING_DIRECTORY")))
_, _, path, _, _, options = bb.fetch2.decodeurl(d.getVar("LIC_FILES_CHKSUM"))
expect("LICENSE is another one", bb.utils.md5_file(f"{source}/{path.lstrip('/')}") == options["md5"])

built = d.expand("${B}/target/${CARGO_TARGET_SUBDIR}")
os.makedirs(built)
shutil.copy(binary, f"{built}/evenkeel")
os.makedirs(d.getVar("D"))
os.makedirs(d.getVar("T"))
bb.build.exec_func("do_install", d, dirs=[d.getVar("B")])
# Into /usr by its own folders, and each file that do_install left in a package: what bitbake would call
# installed-vs-shipped.
shipped = d.getVar("FILES:evenkeel").split() + ["/usr/bin", "/usr/share", "/etc"]
count = 0
for root, _, files in os.walk(d.getVar("D")):
    for name in files:
        path = os.path.join(root, name).removeprefix(d.getVar("D"))
        expect(f"{path} is in no package", any(path.startswith(folder + "/") for folder in shipped))
        count += 1
expect("the program was not installed", os.access(d.expand("${D}/usr/bin/evenkeel"), os.X_OK))
expect("the unit is not enabled", os.path.islink(d.expand("${D}/etc/systemd/system/multi-user.target.wants/evenkeel.service")))
print(f"yocto: BitBake {bb.__version__} read {os.path.basename(recipe)}; fetched, checked and unpacked the tarball; do_install left {count} files")
