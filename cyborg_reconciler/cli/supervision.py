# SPDX-License-Identifier: Apache-2.0
"""How do the server and its worker live, and end, together?

Called by `serve`. Starts processes, waits for signals, and passes them on; it has no threads.
"""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

#: A process asks by this for a signal when its parent ends. Source: prctl(2).
PR_SET_PDEATHSIG: Final = 1

#: What is waited for: none is lost that comes while something else is done.
SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD})

#: A worker that ended by itself is started again after so long, and twice that after each further time, at most.
FIRST_DELAY_S: Final = 1.0
LONGEST_DELAY_S: Final = 60.0
#: One that ended after so long had begun well.
WELL_S: Final = 60.0

Say = Callable[[str], None]
Start = Callable[[], "subprocess.Popen[bytes]"]

libc: Final = ctypes.CDLL(None)


def start(command: Sequence[str], environ: Mapping[str, str], *, alone: bool = False) -> "subprocess.Popen[bytes]":
    """Start *command* in a process that is told to end when this one does, by whatever means.

    *alone*: the signals of the terminal do not reach it.
    """
    parent = os.getpid()

    def prepare() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before the kernel was asked
            os._exit(1)
        # Whoever started us may have had some ignored, as `nohup` does; a shell could not even listen to those.
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    return subprocess.Popen(
        command,
        env=environ,
        process_group=0 if alone else None,
        preexec_fn=prepare,  # noqa: PLW1509 - there are no threads here, whose locks a child could find taken
    )


def supervise(start_server: Start, start_worker: Start | None, say: Say) -> int:
    """Run a server, and a worker beside it, until the server has ended; return what that ended with.

    A worker that ends by itself is started again. SIGTERM and SIGINT go to both. So does SIGHUP: the server reads its
    settings anew, and the worker ends what it is at and is started anew.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        return _Pair(start_server(), start_worker, say).run()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


@dataclass
class _Pair:
    """The two processes.

    Attributes:
        ending: both are to end. renewing: the worker was told to end, so that it is started anew.
        start_at_s: when the worker is to be started, on the clock that never goes back.
    """

    server: "subprocess.Popen[bytes]"
    start_worker: Start | None
    say: Say
    worker: "subprocess.Popen[bytes] | None" = None
    ending: bool = False
    renewing: bool = False
    start_at_s: float = float("-inf")
    started_at_s: float = 0.0
    failures: int = 0

    def run(self) -> int:
        while True:
            if self.server.poll() is not None and not self.ending:
                self._end(signal.SIGTERM)  # it ended by itself: so does the worker
            self._tend_worker()
            if self.server.poll() is not None and self.worker is None:
                return self.server.returncode
            self._wait()

    def _tend_worker(self) -> None:
        """Notice that the worker ended, and start one when it is time for that."""
        if self.worker is not None and self.worker.poll() is not None:
            code, self.worker = self.worker.returncode, None
            if not (self.ending or self.renewing):
                self._put_off(code)
            self.renewing = False
        if self.worker is None and self.start_worker and not self.ending and time.monotonic() >= self.start_at_s:
            self.worker, self.started_at_s = self.start_worker(), time.monotonic()

    def _put_off(self, code: int) -> None:
        now_s = time.monotonic()
        self.failures = 0 if now_s - self.started_at_s >= WELL_S else self.failures
        delay_s = min(FIRST_DELAY_S * 2.0**self.failures, LONGEST_DELAY_S)
        self.failures += 1
        self.start_at_s = now_s + delay_s
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        self.say(f"the worker {how}; it is started again in {delay_s:g} s")

    def _wait(self) -> None:
        """Wait for a signal, or until a worker is to be started, and pass the signal on."""
        if self.worker is None and self.start_worker and not self.ending:
            came = signal.sigtimedwait(SIGNALS, max(0.0, self.start_at_s - time.monotonic()))
            number = came.si_signo if came else signal.SIGCHLD
        else:
            number = signal.sigwait(SIGNALS)
        if number == signal.SIGHUP:
            self._renew()
        elif number != signal.SIGCHLD:
            self._end(number)

    def _end(self, number: int) -> None:
        self.ending = True
        self.server.send_signal(number)
        if self.worker is not None:
            self.worker.send_signal(number)

    def _renew(self) -> None:
        self.server.send_signal(signal.SIGHUP)
        if self.worker is not None:
            self.renewing = True
            self.worker.send_signal(signal.SIGTERM)
