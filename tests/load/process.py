"""A broker whose memory is looked at, with a limit of open files of its own."""

import os
import pathlib
import resource

import brokers


class Measured(brokers.Ringtail):
    """`files` is the limit of open files."""

    def __init__(self, shards, place, binary, io=None, files=None, **common):
        super().__init__(shards, place, binary, io, **common)
        self.files = files

    def start(self):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        super().start()
        if self.files:
            # Not before the start: the broker raises its soft limit to the hard one.
            resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE, (self.files, hard))
        return self

    def rss(self):
        """Bytes of memory that the process has in use."""
        pages = pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def peak(self):
        """The most that it ever had in use, in bytes."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    def descriptors(self):
        """How many descriptors it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))
