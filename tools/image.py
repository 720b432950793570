"""Build the image of a bare host, as a VPS provider would hand it over.

    tools/image.py bookworm        a container image in podman; prints its name
    tools/image.py --vm bookworm   disk, kernel and initrd of a virtual machine; prints their folder

Both are built when an input has changed, else taken from the cache.

The image holds systemd, sshd, sudo and Python, and nothing that Watchkeeper's roles bring. Where
packages come from (apt mirror and proxy, pip's index, additional CAs) is taken from the machine
that builds, so that a guest reaches the same sources; none of it is written into the repository.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "images"
REPOSITORY = "localhost/watchkeeper-host"

# What providers' images of these distributions have in common.
PACKAGES = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "openssh-server",
    "procps",
    "python3",
    "python3-apt",  # Ansible's apt module cannot predict (--check) without it
    "sudo",
    "systemd",
    "systemd-sysv",
    "systemd-timesyncd",
)

# Runs on the builder with the new root as $1; the folder of files to copy is in $OVERLAY.
CUSTOMISE = r"""
set -eu
root=$1
cp -rT --no-preserve=ownership "$OVERLAY" "$root"
chroot "$root" update-ca-certificates >/dev/null
chroot "$root" useradd --create-home --shell /bin/bash admin
mkdir -p "$root/home/admin/.ssh"
chroot "$root" chown -R admin: /home/admin/.ssh
chmod 0700 "$root/home/admin/.ssh"
echo 'admin ALL=(ALL) NOPASSWD:ALL' >"$root/etc/sudoers.d/90-admin"
chmod 0440 "$root/etc/sudoers.d/90-admin"
# Every host makes its own at its first boot.
rm -f "$root"/etc/ssh/ssh_host_*
: >"$root/etc/machine-id"
: >"$root/etc/hostname"
"""

# A virtual machine boots by itself, and finds its network without anybody's help.
VM_PACKAGES = {
    "debian": ("e2fsprogs", "kmod", "linux-image-cloud-amd64", "udev"),
    "ubuntu": ("e2fsprogs", "initramfs-tools", "kmod", "linux-image-virtual", "udev"),
}
VM_DISK = "8G"  # sparse
VM_FILES = {
    "etc/fstab": "/dev/vda / ext4 errors=remount-ro 0 1\n",
    "etc/hosts": "127.0.0.1 localhost vps\n",
    "etc/resolv.conf": "nameserver 10.0.2.3\n",
    # The addresses of QEMU's user network.
    "etc/systemd/network/10-vm.network": (
        "[Match]\nType=ether\n\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n"
    ),
}
# Runs as root with the new root, the disk's file, the folder of the kernel and the new owner.
VM_DISK_SCRIPT = r"""
set -eu
root=$1 disk=$2 folder=$3 owner=$4
chroot "$root" systemctl enable -q systemd-networkd.service
# For disks on LVM, which this is not; emulated it takes a good part of each boot.
chroot "$root" systemctl disable -q e2scrub_reap.service
mke2fs -q -t ext4 -L root -d "$root" "$disk" {size}
cp "$root"/boot/vmlinuz-* "$folder/vmlinuz"
cp "$root"/boot/initrd.img-* "$folder/initrd"
chown -R "$owner" "$folder"
chmod -R u+rw "$folder"
rm -rf --one-file-system "$root"
"""

IMPORT = ('--change=CMD ["/sbin/init"]', "--change=STOPSIGNAL SIGRTMIN+3")

FIRST_BOOT = """\
[Unit]
Description=Make this host's ssh keys
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key
Before=ssh.service ssh.socket

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class Distribution:
    """Where a release's packages are when the builder does not say otherwise."""

    family: str
    keyring: str
    mirror: str
    security: str
    security_suite: str
    components: str


def _debian(suite: str) -> Distribution:
    return Distribution(
        family="debian",
        keyring="/usr/share/keyrings/debian-archive-keyring.gpg",
        mirror=os.environ.get("DEBIAN_MIRROR", ""),
        security=os.environ.get("DEBIAN_SECURITY_MIRROR", ""),
        security_suite=f"{suite}-security",
        components="main",
    )


def _ubuntu(suite: str) -> Distribution:
    return Distribution(
        family="ubuntu",
        keyring="/usr/share/keyrings/ubuntu-archive-keyring.gpg",
        mirror=os.environ.get("UBUNTU_MIRROR", ""),
        security=os.environ.get("UBUNTU_SECURITY_MIRROR", ""),
        security_suite=f"{suite}-security",
        components="main universe",
    )


DISTRIBUTIONS = {
    "bookworm": _debian("bookworm"),
    "trixie": _debian("trixie"),
    "noble": _ubuntu("noble"),
}


class BuildError(Exception):
    """The image could not be built; the message says why."""


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _as_root(*command: str) -> list[str]:
    return list(command) if os.geteuid() == 0 else ["sudo", *command]


def builder_mirrors(distribution: Distribution) -> tuple[str, str]:
    """Main and security mirror: the builder's own if it runs this distribution, else those that
    the environment names (``DEBIAN_MIRROR``, ``DEBIAN_SECURITY_MIRROR``, ``UBUNTU_...``), else
    none."""
    mirror, security = distribution.mirror, distribution.security
    try:
        release = dict(
            line.split("=", 1)
            for line in Path("/etc/os-release").read_text().splitlines()
            if "=" in line
        )
        codename = release["VERSION_CODENAME"].strip('"')
        if release["ID"].strip('"') != distribution.family:
            return mirror, security
        targets = _output(
            "apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"
        )
    except (OSError, KeyError, subprocess.CalledProcessError):
        return mirror, security
    for line in targets.splitlines():
        uri, _, suite = line.rpartition(" ")
        uri = _first_of_list(uri)
        if not uri.startswith(("http://", "https://")):
            continue  # on this machine's disk: no guest reaches it
        if suite == codename:
            mirror = uri.rstrip("/")
        elif suite == f"{codename}-security":
            security = uri.rstrip("/")
    return mirror, security


def _first_of_list(uri: str) -> str:
    """apt's ``mirror+file:`` names a file of mirrors, the best one first."""
    if not uri.startswith("mirror+file:"):
        return uri
    try:
        lines = Path(uri.removeprefix("mirror+file:").rstrip("/")).read_text().splitlines()
    except OSError:
        return ""
    return next((line.split()[0] for line in lines if line.startswith("http")), "")


def sources_list(suite: str, distribution: Distribution) -> str:
    """The guest's sources; empty when no mirror is known, mmdebstrap has the distribution's own."""
    mirror, security = builder_mirrors(distribution)
    if not mirror or not security:
        return ""
    components = distribution.components
    return (
        f"deb {mirror} {suite} {components}\n"
        f"deb {mirror} {suite}-updates {components}\n"
        f"deb {security} {distribution.security_suite} {components}\n"
    )


def apt_settings() -> str:
    """How the builder's apt reaches its mirrors: proxies, CAs, clock tolerance."""
    try:
        dump = _output("apt-config", "dump")
    except (OSError, subprocess.CalledProcessError):
        return ""
    wanted = ("Acquire::http", "Acquire::https", "Acquire::Check-", "Acquire::Retries")
    lines = [
        line
        for line in dump.splitlines()
        if line.startswith(wanted) and not line.endswith(' "";') and "User-Agent" not in line
    ]
    return "".join(f"{line}\n" for line in lines)


def builder_cas() -> dict[str, str]:
    """CA certificates that the builder trusts, by file name; the guest keeps those new to it."""
    bundle = os.environ.get("SSL_CERT_FILE") or "/etc/ssl/certs/ca-certificates.crt"
    shipped = Path("/usr/share/ca-certificates")
    known = (
        {ssl.PEM_cert_to_DER_cert(path.read_text()) for path in shipped.glob("**/*.crt")}
        if shipped.is_dir()
        else set()
    )
    try:
        text = Path(bundle).read_text()
    except OSError:
        return {}
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    found = {}
    for part in text.split(begin)[1:]:
        pem = begin + part.partition(end)[0] + end + "\n"
        der = ssl.PEM_cert_to_DER_cert(pem)
        if der not in known:
            found[f"builder-{hashlib.sha256(der).hexdigest()[:12]}.crt"] = pem
    return found


def pip_settings(with_ca: bool) -> str:
    """pip's index as the builder's pip uses it. Indexes on the builder's disk stay there."""
    lines = ["[global]"]
    index = os.environ.get("PIP_INDEX_URL", "")
    if not index:
        try:
            config = _output(sys.executable, "-m", "pip", "config", "get", "global.index-url")
            index = config.strip()
        except subprocess.CalledProcessError:
            index = ""
    if index.startswith(("http://", "https://")):
        lines.append(f"index-url = {index}")
    if with_ca:
        lines.append("cert = /etc/ssl/certs/ca-certificates.crt")
    return "\n".join(lines) + "\n" if len(lines) > 1 else ""


def overlay(suite: str) -> dict[str, str]:
    """Files laid over the new root: path to content."""
    cas = builder_cas()
    files = {f"usr/local/share/ca-certificates/{name}": pem for name, pem in cas.items()}
    files["etc/apt/apt.conf.d/90-builder"] = apt_settings()
    files["etc/pip.conf"] = pip_settings(bool(cas))
    files["etc/ssh/sshd_config.d/10-keys-only.conf"] = (
        "PasswordAuthentication no\nPermitRootLogin no\n"
    )
    files["usr/lib/systemd/system/ssh-host-keys.service"] = FIRST_BOOT
    return {path: text for path, text in files.items() if text}


def _digest(suite: str, *more: str) -> str:
    """Over everything that an image is made from."""
    digest = hashlib.sha256()
    for part in (
        sources_list(suite, DISTRIBUTIONS[suite]),
        " ".join(PACKAGES),
        CUSTOMISE,
        *(f"{path}\n{text}" for path, text in sorted(overlay(suite).items())),
        *more,
    ):
        digest.update(part.encode())
        digest.update(b"\0")
    return digest.hexdigest()[:12]


def image_name(suite: str) -> str:
    """``repository:suite-hash`` of the container image."""
    return f"{REPOSITORY}:{suite}-{_digest(suite, *IMPORT)}"


def vm_folder(suite: str) -> Path:
    """Where disk, kernel and initrd of ``suite`` are, or will be."""
    made_from = (*VM_PACKAGES[DISTRIBUTIONS[suite].family], VM_DISK, VM_DISK_SCRIPT, str(VM_FILES))
    return CACHE / f"vm-{suite}-{_digest(suite, *made_from)}"


def _exists(image: str) -> bool:
    return subprocess.run(_as_root("podman", "image", "exists", image), check=False).returncode == 0


def _mmdebstrap(suite: str, target: Path, packages: tuple[str, ...], files: dict[str, str]) -> None:
    """Unpack ``suite`` into ``target``: a tar archive, or a folder (which then is root's)."""
    distribution = DISTRIBUTIONS[suite]
    if not Path(distribution.keyring).exists():
        raise BuildError(
            f"{distribution.keyring} is missing; Debian packages it as debian-archive-keyring,"
            " Ubuntu as ubuntu-keyring"
        )
    with tempfile.TemporaryDirectory(prefix="watchkeeper-image-") as scratch:
        laid = Path(scratch) / "overlay"
        for path, text in files.items():
            file = laid / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        hook = Path(scratch) / "customise.sh"
        hook.write_text(CUSTOMISE)
        settings = Path(scratch) / "apt.conf"
        settings.write_text(apt_settings())
        command = _as_root(
            "mmdebstrap",
            "--quiet",
            "--variant=minbase",
            "--skip=cleanup/apt/lists",  # as on a host that has been up for a day
            f"--include={','.join(packages)}",
            f"--aptopt={settings}",
            f"--keyring={distribution.keyring}",
            f'--customize-hook=OVERLAY={shlex.quote(str(laid))} sh {shlex.quote(str(hook))} "$1"',
            '--customize-hook=chroot "$1" systemctl enable -q ssh-host-keys.service',
            suite,
            str(target),
        )
        finished = subprocess.run(
            command,
            input=sources_list(suite, distribution),
            text=True,
            capture_output=True,
            check=False,
            env={**os.environ, "TMPDIR": "/var/tmp"},  # noqa: S108 - /tmp may be small
        )
        if finished.returncode:
            raise BuildError(f"mmdebstrap failed:\n{finished.stderr[-4000:]}")


def build(suite: str) -> str:
    """The name of the up-to-date container image of ``suite``; made when there is none.

    Raises:
        BuildError: mmdebstrap or podman failed.
    """
    image = image_name(suite)
    if _exists(image):
        return image
    CACHE.mkdir(parents=True, exist_ok=True)
    tarball = CACHE / f"{image.rpartition(':')[2]}.tar"
    started = time.monotonic()
    if not tarball.exists():
        print(f"==> Building the image of a bare {suite} host (about a minute)", file=sys.stderr)
        partial = tarball.with_suffix(".partial.tar")
        _mmdebstrap(suite, partial, PACKAGES, overlay(suite))
        if os.geteuid():
            subprocess.run(_as_root("chown", str(os.getuid()), str(partial)), check=True)
        partial.replace(tarball)
    imported = subprocess.run(
        _as_root("podman", "import", "--quiet", *IMPORT, str(tarball), image),
        capture_output=True,
        text=True,
        check=False,
    )
    if imported.returncode:
        raise BuildError(f"podman import failed: {imported.stderr.strip()}")
    for old in CACHE.glob(f"{suite}-*.tar"):
        if old != tarball:
            old.unlink()
    print(f"==> {image} ready after {time.monotonic() - started:.0f} s", file=sys.stderr)
    return image


def build_vm(suite: str) -> Path:
    """The folder with ``disk`` (raw, sparse, ext4 without partitions), ``vmlinuz`` and ``initrd``.

    Raises:
        BuildError: mmdebstrap or mke2fs failed.
    """
    folder = vm_folder(suite)
    if folder.exists():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    print(f"==> Building the disk of a bare {suite} host (about two minutes)", file=sys.stderr)
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    root = Path("/var/tmp") / f"watchkeeper-{folder.name}-{os.getpid()}"  # noqa: S108 - as above
    packages = PACKAGES + VM_PACKAGES[DISTRIBUTIONS[suite].family]
    _mmdebstrap(suite, root, packages, overlay(suite) | VM_FILES)
    script = VM_DISK_SCRIPT.replace("{size}", VM_DISK)
    arguments = (str(root), str(partial / "disk"), str(partial), f"{os.getuid()}:{os.getgid()}")
    made = subprocess.run(
        _as_root("sh", "-c", script, "vm-disk", *arguments),
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise BuildError(f"the disk could not be made:\n{made.stderr[-4000:]}")
    partial.replace(folder)
    for old in CACHE.glob(f"vm-{suite}-*"):
        if old != folder:
            shutil.rmtree(old)
    print(f"==> {folder.name} ready after {time.monotonic() - started:.0f} s", file=sys.stderr)
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--vm", action="store_true", help="of a virtual machine")
    parser.add_argument("suite", choices=sorted(DISTRIBUTIONS))
    options = parser.parse_args()
    try:
        print(build_vm(options.suite) if options.vm else build(options.suite))
    except BuildError as error:
        print(f"image.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
