# SPDX-License-Identifier: Apache-2.0
"""What comes of the kernel's events, and of a socket that gives none any more."""

import errno

from cyborg_reconciler.agent.events import REST_S, follow


class End:
    """Says that it ended after so many answers; notes how long it was waited for."""

    def __init__(self, after):
        self.left, self.waited_s = after, []

    def is_set(self):
        self.left -= 1
        return self.left < 0

    def wait(self, timeout_s):
        self.waited_s.append(timeout_s)


def followed(answers):
    """Return how many events came of *answers* of the kernel, numbers of errors among them, and the waits."""
    end, events, left = End(len(answers)), [], iter(answers)

    def poll():
        number = next(left)
        if number:
            raise OSError(number, errno.errorcode[number])

    follow(poll, lambda: events.append("event"), end)
    return len(events), end.waited_s


def test_each_event_is_one_and_so_is_a_flood_of_which_some_are_lost(caplog):
    caplog.set_level("INFO")
    assert followed([0, errno.ENOBUFS, 0, errno.ENOBUFS]) == (4, [])
    assert caplog.text.count("ENOBUFS") == 2


def test_an_error_that_lasts_is_told_once_and_waited_on(caplog):
    caplog.set_level("INFO")
    assert followed([0, *[errno.EBADF] * 100]) == (2, [REST_S] * 99)
    assert caplog.text.count("EBADF") == 1


def test_that_events_come_again_is_an_event_and_the_next_error_is_told_again(caplog):
    caplog.set_level("INFO")
    assert followed([errno.EBADF, errno.EBADF, 0, errno.EBADF, errno.ENOBUFS, 0]) == (5, [REST_S])
    assert caplog.text.count("EBADF") == 2
