"""The image's name changes with everything it is made from, and with nothing else."""

from __future__ import annotations

import dataclasses

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
        patch.setattr(image, "builder_mirrors", lambda d: ("http://mirror/debian", d.security))
        names.add(image.image_name("bookworm"))
    with monkeypatch.context() as patch:
        patch.setattr(image, "builder_cas", lambda: {"own.crt": "PEM"})
        names.add(image.image_name("bookworm"))
    assert len(names) == 4


def test_sources_name_updates_and_security() -> None:
    noble = dataclasses.replace(
        image.DISTRIBUTIONS["noble"],
        family="elsewhere",
        mirror="http://mirror.example/ubuntu",
        security="http://mirror.example/ubuntu",
    )
    lines = image.sources_list("noble", noble).splitlines()
    assert [line.split()[2] for line in lines] == ["noble", "noble-updates", "noble-security"]
