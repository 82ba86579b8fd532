"""The brokers the tests can be pointed at, each started as a child process on ports of its own."""

import ctypes
import os
import pathlib
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile

import support

ROOT = pathlib.Path(__file__).resolve().parents[2]
START_SECONDS = 60
STOP_SECONDS = 30
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)


def free_port():
    """A TCP port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def port_is_free(port):
    """Whether a listener could be bound to this port of the loopback address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _die_with_parent():
    # A killed test run must not leave its broker behind.
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Broker:
    """A broker process. `target` is the name that `expect` chooses by."""

    target = None

    def __init__(self, port=None, user="guest", password="guest", config="", plugins=()):
        self.host = "127.0.0.1"
        self.port = port or free_port()
        self.user = user
        self.password = password
        self.config = config
        # What RabbitMQ needs for that which Ringtail has built in.
        self.plugins = plugins
        self.process = None
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"blackbox-{self.target}-"))
        self.output = self.folder / "stderr"
        # Whether `discard` leaves the files, as evidence.
        self.keep = False

    def start(self):
        """Starts the process and returns once the port answers a protocol header."""
        try:
            taken = not port_is_free(self.port)
            self.process = self._spawn(self.command(), self.environment(), self.output)
            if taken:
                # Another listener there would answer in place of this process.
                support.eventually(lambda: self.process.poll() is not None, START_SECONDS / 2)
            support.eventually(self._answers, START_SECONDS, lambda: self._why_not_up())
        except BaseException:
            self.discard()
            raise
        return self

    def stop(self):
        """SIGTERM, then the exit code. The data stay for a restart until `discard`."""
        self.process.send_signal(signal.SIGTERM)
        return self._wait()

    def kill(self):
        """SIGKILL, without a warning. The data stay for a restart until `discard`."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        # Of several processes the one that listens may be the last to go.
        support.eventually(lambda: port_is_free(self.port))

    def discard(self):
        """Ends what still runs and removes every file."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self._wait()
        if not self.keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def stopped(self):
        """Waits for the end of a process that was told to stop; its exit code."""
        return self._wait()

    def log(self):
        """What the process wrote so far."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def _wait(self):
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            raise AssertionError(f"{self.target} ignored SIGTERM\n{self.log()}") from None

    def _spawn(self, command, environment, output):
        with open(output, "ab") as sink:
            return subprocess.Popen(
                command, env=environment, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=sink,
                stderr=sink, start_new_session=True, preexec_fn=_die_with_parent)

    def _why_not_up(self):
        return f"{self.target} does not answer on port {self.port}\n{self.log()}"

    def _answers(self):
        if self.process.poll() is not None:
            raise AssertionError(f"{self.target} exited {self.process.returncode}\n{self.log()}")
        try:
            with socket.create_connection((self.host, self.port), timeout=2) as probe:
                probe.sendall(b"AMQP\x00\x00\x09\x01")
                return probe.recv(1) == b"\x01"
        except OSError:
            return False


class Ringtail(Broker):
    """The broker of this repository."""

    target = "ringtail"

    def __init__(self, shards=1, place=None, binary=None, io=None, **common):
        super().__init__(**common)
        self.shards = shards
        self.place = place
        self.io = io
        self.data = self.folder / "data"
        # What RINGTAIL_TEST_DISK lets go wrong.
        self.faults = None
        self.binary = pathlib.Path(binary or ROOT / "target/release/ringtail").resolve()

    def command(self):
        command = [
            str(self.binary), "--listen", f"{self.host}:{self.port}",
            "--shards", str(self.shards), "--data-dir", str(self.data)]
        if self.io:
            command += ["--io", self.io]
        if self.config:
            file = self.folder / "ringtail.conf"
            file.write_text(self.config)
            command += ["--config", str(file)]
        return command

    def environment(self):
        environment = dict(os.environ)
        for key in [key for key in environment if key.startswith(("RABBITMQ_", "RINGTAIL_"))]:
            del environment[key]
        if self.user != "guest":
            environment |= {
                "RABBITMQ_DEFAULT_USER": self.user, "RABBITMQ_DEFAULT_PASS": self.password}
        if self.place:
            environment["RINGTAIL_TEST_PLACE"] = self.place
        if self.faults:
            environment["RINGTAIL_TEST_DISK"] = self.faults
        return environment

    def stop(self):
        code = super().stop()
        self.check(code)
        return code

    def discard(self):
        try:
            if self.process and self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
                self.check(self._wait())
        finally:
            super().discard()

    def check(self, code):
        """A clean stop: exit code 0, and no thread has panicked on the way."""
        log = self.log()
        assert code == 0, f"exit code {code} after SIGTERM\n{log}"
        assert "panicked" not in log, log


class RabbitMQ(Broker):
    """A RabbitMQ node of the machine's own package: own ports, own folders, own epmd."""

    target = "rabbitmq"

    def __init__(self, **common):
        super().__init__(**common)
        self.epmd_port = free_port()
        self.epmd = None
        self.node = f"blackbox-{secrets.token_hex(4)}@localhost"

    def start(self):
        # The node would start epmd as a daemon that outlives it.
        environment = {**os.environ, "ERL_EPMD_ADDRESS": "127.0.0.1"}
        command = [self._tool("epmd"), "-port", str(self.epmd_port)]
        if self.epmd is None:
            self.epmd = self._spawn(command, environment, self.folder / "epmd")
        return super().start()

    def command(self):
        return [str(self._scripts() / "rabbitmq-server")]

    def environment(self):
        folder = self.folder
        (folder / "rabbitmq.conf").write_text(
            "log.console = true\nlog.console.level = warning\n" + self._limits() + self.config)
        (folder / "plugins").write_text(f"[{','.join(self.plugins)}].\n")
        if "consumer_timeout" in self.config:
            # How often a channel looks for late acknowledgements; else it is a minute.
            (folder / "advanced.config").write_text("[{rabbit, [{channel_tick_interval, 200}]}].\n")
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith("RABBITMQ_")}
        return environment | {
            "HOME": str(folder),
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_NODE_IP_ADDRESS": self.host,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_DEFAULT_USER": self.user,
            "RABBITMQ_DEFAULT_PASS": self.password,
        }

    def _limits(self):
        # Of a key that is there twice the first would hold.
        memory, disk = "vm_memory_high_watermark.", "disk_free_limit."
        return ("" if memory in self.config else f"{memory}relative = 0.9\n") + (
            "" if disk in self.config else f"{disk}absolute = 1MB\n")

    def discard(self):
        super().discard()
        if self.epmd and self.epmd.poll() is None:
            self.epmd.terminate()
            self.epmd.wait()

    @staticmethod
    def _scripts():
        # The scripts themselves: the ones on the PATH switch to the user of the system's own node.
        found = sorted(pathlib.Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin"))
        assert found, "rabbitmq-server is not installed (Debian package rabbitmq-server)"
        return found[-1]

    @staticmethod
    def _tool(name):
        path = shutil.which(name)
        assert path, f"{name} is not installed (Debian package erlang-base)"
        return path
