# SPDX-License-Identifier: Apache-2.0
"""Guests for the tests of the lab: each test gets its own, restored from a snapshot within seconds.

Used by the tests beside it. Where QEMU or root is missing the tests fail and say what to install; none is skipped.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.lab.guest import Guest
from tests.lab.image import Image, provide_image
from tests.lab.machine import Boot
from tests.lab.needs import LabUnavailable
from tests.lab.place import remove_orphans, say
from tests.lab.snapshot import provide_snapshot, settle

STARTED = pytest.StashKey[list[Guest]]()


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.lab)
    # The longest first: two workers then end at about the same time.
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        report.sections += [(f"console of {guest.name}", guest.console_tail()) for guest in item.stash.get(STARTED, [])]
    return report


@pytest.fixture(scope="session")
def in_the_open(pytestconfig) -> Callable[[], AbstractContextManager[None]]:
    """A context in which the lab's progress is seen at once: the first test waits minutes for an image and a boot."""
    return pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled


@pytest.fixture(scope="session")
def image(in_the_open) -> Image:
    """The Debian image that all guests come from."""
    remove_orphans()
    try:
        with in_the_open():
            return provide_image()
    except LabUnavailable as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
def start_guests(request, image, in_the_open) -> Iterator[Callable[..., list[Guest]]]:
    """A function that starts guests of the given names at once, and returns them when all answer."""
    started: list[Guest] = []
    request.node.stash[STARTED] = started

    def start(*names: str, boot: Boot = Boot.KERNEL) -> list[Guest]:
        with in_the_open():
            snapshot = provide_snapshot(image, boot)
        new = []
        for name in names:
            new.append(snapshot.start(name))
            started.append(new[-1])
        for guest in new:
            settle(guest)
        return new

    yield start
    for guest in started:
        if guest.hangs:  # what the watchdog said is shown with a test that failed alone
            with in_the_open():
                say(f"hangs of {guest.name} while it booted, ended by a reset: {guest.hangs}, in {request.node.nodeid}")
        guest.close()


@pytest.fixture
def guest(start_guests) -> Guest:
    """A guest whose kernel and arguments QEMU decides: edits of its GRUB configuration never have an effect."""
    return start_guests("node1")[0]


@pytest.fixture
def two_guests(start_guests) -> list[Guest]:
    """Two such guests at once."""
    return start_guests("node1", "node2")


@pytest.fixture
def grub_guest(start_guests) -> Guest:
    """A guest that boots by its own boot loader: an edit of its GRUB configuration shows after a reboot."""
    return start_guests("node1", boot=Boot.GRUB)[0]
