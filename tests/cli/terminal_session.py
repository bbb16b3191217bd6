"""The program at a terminal: a pseudo-terminal, keys typed into it, and what appears."""
import os
import pty
import re
import select
import signal
import time

from cli_helper import PROGRAM, environment

ESCAPE = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


class Session:
    """with Session(home, "chat", MODEL) as s: s.type("Hello\\n"); s.wait_for("> ")"""

    def __init__(self, home, *arguments, **changes):
        self.seen = b""
        self.mark = 0
        self.code = None
        changes.setdefault("TERM", "xterm-256color")
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(PROGRAM, [PROGRAM, *arguments], environment(home, **changes))

    def __enter__(self):
        return self

    def __exit__(self, *ignored):
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)

    def type(self, keys):
        self.mark = len(self.seen)
        os.write(self.fd, keys.encode())

    def _read(self, seconds):
        ready, _, _ = select.select([self.fd], [], [], seconds)
        if not ready:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # the other side has gone
            return False
        self.seen += data
        return bool(data)

    def new(self):
        """What came since the last type(), without escape sequences."""
        return ESCAPE.sub(b"", self.seen[self.mark:]).replace(b"\r", b"").decode("utf-8", "replace")

    def wait_for(self, text, seconds=120):
        """True once `text` (a regular expression) has come since the last type()."""
        end = time.monotonic() + seconds
        while not re.search(text, self.new()):
            if time.monotonic() > end or not self._read(0.1):
                return re.search(text, self.new()) is not None
        return True

    def wait_end(self, seconds=60):
        """The exit code; None if it has not ended."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._read(0.05)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid != 0:
                self.code = os.waitstatus_to_exitcode(status)
                while self._read(0.05) and select.select([self.fd], [], [], 0)[0]:
                    pass
                return self.code
        return None
