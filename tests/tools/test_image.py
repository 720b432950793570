"""The image's name changes with everything it is made from, and with nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from tools import image


@pytest.fixture(autouse=True)
def plain_builder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A builder without mirrors, proxies or CAs of its own."""
    monkeypatch.setattr(image, "builder_mirrors", lambda d: (d.mirror, d.security))
    monkeypatch.setattr(image, "apt_settings", lambda: "")
    monkeypatch.setattr(image, "builder_cas", dict)
    monkeypatch.setattr(image, "pip_settings", lambda with_ca: "")


def test_the_same_inputs_give_the_same_name() -> None:
    assert image.image_name("bookworm") == image.image_name("bookworm")
    assert image.image_name("bookworm").startswith("localhost/watchkeeper-host:bookworm-")
    assert image.image_name("bookworm") != image.image_name("trixie")


def test_a_new_package_a_mirror_or_a_ca_give_a_new_name(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {image.image_name("bookworm")}
    with monkeypatch.context() as patch:
        patch.setattr(image, "PACKAGES", (*image.PACKAGES, "vim"))
        names.add(image.image_name("bookworm"))
    with monkeypatch.context() as patch:
        patch.setattr(
            image, "builder_mirrors", lambda d: ("http://mirror/debian", "http://mirror/security")
        )
        names.add(image.image_name("bookworm"))
    with monkeypatch.context() as patch:
        patch.setattr(image, "builder_cas", lambda: {"own.crt": "PEM"})
        names.add(image.image_name("bookworm"))
    assert len(names) == 4


def test_without_a_known_mirror_the_choice_is_mmdebstraps() -> None:
    unknown = dataclasses.replace(image.DISTRIBUTIONS["noble"], mirror="", security="")
    assert image.sources_list("noble", unknown) == ""


class TestMirrors:
    @pytest.fixture
    def mirrors(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> Callable[[str], tuple[str, str]]:
        """What is made of apt's own answer, on a builder that runs Ubuntu 24.04."""
        monkeypatch.undo()
        release = tmp_path / "os-release"
        release.write_text('ID=ubuntu\nVERSION_CODENAME="noble"\n')
        monkeypatch.setattr(
            image, "Path", lambda name: release if name == "/etc/os-release" else Path(name)
        )

        def found(targets: str) -> tuple[str, str]:
            monkeypatch.setattr(image, "_output", lambda *command: targets)
            unknown = dataclasses.replace(image.DISTRIBUTIONS["noble"], mirror="", security="")
            return image.builder_mirrors(unknown)

        return found

    def test_are_the_builders_own(self, mirrors: Callable[[str], tuple[str, str]]) -> None:
        assert mirrors(
            "http://near.example/ubuntu/ noble\n"
            "http://near.example/ubuntu/ noble-updates\n"
            "https://safe.example/ubuntu/ noble-security\n"
        ) == ("http://near.example/ubuntu", "https://safe.example/ubuntu")

    def test_of_a_list_the_first_is_taken(
        self, mirrors: Callable[[str], tuple[str, str]], tmp_path: Path
    ) -> None:
        names = tmp_path / "apt-mirrors.txt"
        names.write_text("# ours\nhttp://near.example/ubuntu/\tpriority:1\nhttp://far.example/\n")
        answer = f"mirror+file:{names}/ noble\nmirror+file:{names}/ noble-security\n"
        assert mirrors(answer) == ("http://near.example/ubuntu", "http://near.example/ubuntu")

    def test_on_the_builders_disk_are_no_use_to_a_guest(
        self, mirrors: Callable[[str], tuple[str, str]]
    ) -> None:
        assert mirrors("file:/srv/ubuntu/ noble\nmirror+file:/nowhere/ noble\n") == ("", "")


def test_sources_name_updates_and_security() -> None:
    noble = dataclasses.replace(
        image.DISTRIBUTIONS["noble"],
        family="elsewhere",
        mirror="http://mirror.example/ubuntu",
        security="http://mirror.example/ubuntu",
    )
    lines = image.sources_list("noble", noble).splitlines()
    assert [line.split()[2] for line in lines] == ["noble", "noble-updates", "noble-security"]
