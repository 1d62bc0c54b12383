# SPDX-License-Identifier: GPL-2.0-or-later
"""What the programs depend on: links.py KEEPER

The keeper is locked in memory and may be all that a guest has left: nothing big is in it.
"""

import subprocess
import sys

UNWANTED = ("libvirt", "libsmartcols", "libZydis", "libelf")


def main(keeper):
    libraries = subprocess.run(["ldd", keeper], capture_output=True, text=True,
                               check=True).stdout
    found = [name for name in UNWANTED if name in libraries]
    print("1..1")
    print(f"{'not ok' if found else 'ok'} 1 keeper-depends-on-little")
    for name in found:
        print(f"# {keeper} depends on {name}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
