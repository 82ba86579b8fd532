"""A broker whose memory is looked at, with a limit of open files and a CPU of its own."""

import os
import pathlib
import resource

import brokers


class Measured(brokers.Ringtail):
    """`files` is the limit of open files, `cpu` the one CPU that it may use."""

    def __init__(self, shards, place, binary, io=None, files=None, cpu=None, **common):
        super().__init__(shards, place, binary, io, **common)
        self.files, self.cpu = files, cpu

    def command(self):
        command = super().command()
        return command if self.cpu is None else ["taskset", "-c", str(self.cpu), *command]

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

    def forget_peak(self):
        """`peak` tells the most from now on."""
        pathlib.Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def descriptors(self):
        """How many descriptors it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))
