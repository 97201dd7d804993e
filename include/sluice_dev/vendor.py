"""`make vendor`: fetch the JavaScript libraries of the page Lake and of its tests from npm, as their lock files say.

The files are checked in, so nothing else needs npm or the network. A lock file names of each package its version, its
licence, the hash that npm has of its archive, and the hash of each file that is taken from it. To change a version,
edit it in the lock file, remove its `integrity`, and run `make vendor`: hashes that are missing are filled in.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

from sluice.errors import SluiceError
from sluice.settings import PROJECT_ROOT

LOCKS = (
    PROJECT_ROOT / "plugins/sluice_airflow/lake/static/vendor/vendor.json",
    PROJECT_ROOT / "tests/browser/vendor/vendor.json",
)

REGISTRY = "https://registry.npmjs.org"


class VendorFailed(SluiceError):
    """A package is not what its lock file says."""


def vendor(lock: Path) -> list[str]:
    """Fetch the packages of a lock file into its folder; `<name> <version>` of each.

    Raises:
        VendorFailed: an archive or a file has another hash than the lock file says.
    """
    packages: list[dict[str, Any]] = json.loads(lock.read_text())
    for package in packages:
        archive = _fetch(package)
        for name, file in package["files"].items():
            body = _member(archive, file["from"])
            digest = hashlib.sha256(body).hexdigest()
            if file.setdefault("sha256", digest) != digest:
                raise VendorFailed(
                    f"{lock.parent / name} of {package['name']} has the hash {digest}, not that of {lock}"
                )
            (lock.parent / name).write_bytes(body)
    lock.write_text(json.dumps(packages, indent=2) + "\n")
    return [f"{package['name']} {package['version']} ({package['license']})" for package in packages]


def _fetch(package: dict[str, Any]) -> bytes:
    import httpx

    name, version = package["name"], package["version"]
    url = f"{REGISTRY}/{name}/-/{name.rpartition('/')[2]}-{version}.tgz"
    answer = httpx.get(url, timeout=60, follow_redirects=True)
    answer.raise_for_status()
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(answer.content).digest()).decode()
    if "integrity" not in package:
        # Another version: the hashes of the files are not those of this one.
        for file in package["files"].values():
            file.pop("sha256", None)
    if package.setdefault("integrity", integrity) != integrity:
        raise VendorFailed(f"{url} has the hash {integrity}, not that of the lock file")
    return answer.content


def _member(archive: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        member = tar.extractfile(f"package/{name}")
        if member is None:
            raise VendorFailed(f"{name} is not a file of the package")
        return member.read()


def changed_files(lock: Path) -> list[str]:
    """Names of files next to a lock file that are not in it, are missing, or have another hash."""
    listed = {
        name: file["sha256"] for package in json.loads(lock.read_text()) for name, file in package["files"].items()
    }
    found = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in lock.parent.iterdir() if file != lock}
    return sorted(name for name in listed.keys() | found.keys() if listed.get(name) != found.get(name))


if __name__ == "__main__":
    for each in LOCKS:
        sys.stdout.write("\n".join(vendor(each)) + "\n")
