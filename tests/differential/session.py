"""A script's life on one target: its connections, its names, and what each step brought."""

import re
import time

import encoding
import peer
import wire

# What servers make up: how it looks, and the letter of its names in scripts and transcripts.
INVENTED = {"$": r"amq\.gen-[\w-]{22}", "%": r"amq\.ctag-[\w-]{22}",
            "^": r"amq\.rabbitmq\.reply-to\.[^\s')]+"}
GENERATED = re.compile("|".join(f"({pattern})" for pattern in INVENTED.values()))
SYMBOL = re.compile(r"[$%^]\d+")
TAG_IN_TEXT = re.compile(r"unknown delivery tag (\d+)")
GONE_SECONDS = 20


class Session:
    """One script on one target. `control` is a connection of the runner's own."""

    def __init__(self, broker, control, prefix, connections):
        self.broker, self.control, self.prefix = broker, control, prefix
        self.settings = connections
        self.peers = {}
        # Invented names by symbol and back; how many symbols of each letter there are.
        self.symbols, self.names = {}, {}
        self.invented = dict.fromkeys(INVENTED, 0)
        self.lines = {}
        # Queues that are asked at each fence, by all or by their owner, except by who was refused.
        self.shared, self.owned, self.refused = [], {}, set()
        self.pongs = {}
        self.group, self.sent_tags = [], set()
        self.lives = 0

    # Names -------------------------------------------------------------------------------------

    def real(self, value):
        """A value of a script with this target's names in it."""
        if isinstance(value, str):
            value = SYMBOL.sub(lambda found: self.symbols.get(found[0], "unborn"), value)
            return self.prefix + value[1:] if value.startswith("@") else value
        if isinstance(value, list):
            return [self.real(each) for each in value]
        if isinstance(value, dict):
            return {key: self.real(each) for key, each in value.items()}
        return value

    def plain(self, text):
        """A line with invented names replaced, in the order of their appearance."""
        return GENERATED.sub(self.symbol, text)

    def symbolic(self, name):
        """A queue's name as scripts write it."""
        if name.startswith(self.prefix):
            return f"@{name.removeprefix(self.prefix)}"
        return self.plain(name)

    def symbol(self, found):
        if found[0] not in self.names:
            letter = "$%^"[found.lastindex - 1]
            number = self.invented[letter]
            self.invented[letter] = number + 1
            self.symbols[f"{letter}{number}"] = found[0]
            self.names[found[0]] = f"{letter}{number}"
        return self.names[found[0]]

    # Transcript --------------------------------------------------------------------------------

    def recorder(self, number):
        """What a connection tells its news to."""
        return lambda channel, kind, text: self.record(number, channel, kind, text)

    def record(self, connection, channel, kind, text):
        if kind == "declared":
            self.declared(connection, *text)
            return
        if kind == "pong":
            left = self.pongs.get((connection, channel), 0)
            if not left:
                return
            self.pongs[connection, channel] = left - 1
            kind = "reply"
        if kind == "closed":
            text = TAG_IN_TEXT.sub(self.told_tag, text)
        key = (connection, channel, self.plain(kind))
        self.lines.setdefault(key, []).append(self.plain(text))

    def told_tag(self, found):
        # Numbers of deliveries depend on how consumers of one channel alternate.
        return "unknown delivery tag sent" if int(found[1]) in self.sent_tags else found[0]

    def declared(self, connection, queue, exclusive):
        if exclusive is None:
            return
        asked = self.owned.setdefault(connection, []) if exclusive else self.shared
        if queue not in asked:
            asked.append(queue)
        self.refused = {pair for pair in self.refused if pair[1] != queue}

    def view(self):
        """What the step brought, comparable: lines by who got them."""
        view = {key: list(lines) for key, lines in self.lines.items()}
        for number, each in self.everyone():
            for queue, state in each.states.items():
                view.setdefault((number, 0, "queues"), []).append(
                    f"{self.plain(queue)}: {state}")
        return view

    def forget(self):
        """A new step begins."""
        self.lines.clear()
        self.sent_tags.clear()
        for number, each in self.everyone():
            self.refused.update((number, queue) for queue, state in each.states.items()
                                if state in ("gone", "locked"))
            each.states.clear()

    # Steps -------------------------------------------------------------------------------------

    def everyone(self):
        """All connections, the runner's own last."""
        return [*self.peers.items(), ("control", self.control)]

    def living(self):
        return [(number, each) for number, each in self.everyone() if not each.eof]

    def ensure(self, number):
        """The connection of this number, opened if it is not."""
        if number not in self.peers or self.peers[number].eof:
            self.owned.pop(number, None)
            settings = self.settings.get(str(number), {})
            self.peers[number] = peer.Peer(
                self.broker, self.recorder(number), self.plain, channels=0, **settings)
        return self.peers[number]

    def prepare(self, step):
        """Opens what the step needs open."""
        self.forget()
        each = self.ensure(step["c"])
        channel = step.get("ch", 0)
        if channel and not step.get("as_is") and not each.is_open(channel):
            each.open(channel)
        self.group = []

    def channel(self, step):
        """The channel of a step, or None if it is not open."""
        return self.peers[step["c"]].channels.get(step.get("ch"))

    def add(self, step, name, arguments):
        """Puts an operation of the step into the group that is written at once."""
        each, channel = self.peers[step["c"]], self.channel(step)
        arguments = self.real(arguments)
        number = arguments.pop("on", step.get("ch", 0))
        if name == "raw":
            kind, payload = arguments["type"], bytes.fromhex(arguments["hex"])
            end = bytes([arguments.get("end", 0xCE)])
            self.group.append(encoding.raw_frame(kind, number, payload, end))
            return
        if channel and channel.open:
            self.note(step, each, channel, name, arguments)
        if name == "publish":
            body = encoding.body(arguments.pop("id"), arguments.pop("size"))
            properties, cut = arguments.pop("properties", {}), arguments.pop("cut", None)
            self.group.append(encoding.publish(
                number, arguments, body, each.frame_max, properties, cut))
            return
        if name == "connection.close":
            each.closing.add(0)
        self.group.append(encoding.method(number, name, arguments))

    def note(self, step, each, channel, name, arguments):
        """Keeps what the answers of an operation will not say."""
        nowait = arguments.get("nowait", False)
        if name == "basic.consume":
            wish = peer.Wish(arguments["queue"], arguments.get("no_ack", False), channel.prefetch,
                             arguments.get("arguments", {}).get("x-priority", 0))
            if nowait:
                channel.consumers[arguments["consumer_tag"]] = wish
            else:
                channel.consuming[arguments["consumer_tag"]] = wish
        elif name == "basic.qos" and arguments.get("global_qos"):
            # What is held beyond a lower limit is not taken back.
            channel.limit = max(arguments.get("prefetch_count", 0), channel.held())
            channel.shared = True
            if not arguments.get("prefetch_count"):
                channel.limit = 0
        elif name == "basic.qos":
            channel.prefetch = arguments.get("prefetch_count", 0)
            # A limit for each consumer lifts the shared one.
            channel.limit = 0
        elif name == "basic.get":
            channel.getting.append(arguments.get("no_ack", False))
        elif name == "queue.declare":
            exclusive = arguments.get("exclusive", False)
            exclusive = None if arguments.get("passive") else exclusive
            if nowait:
                self.declared(step["c"], arguments["queue"], exclusive)
            else:
                channel.declaring.append(exclusive)
        elif name == "confirm.select":
            channel.confirming = True
        elif name == "publish" and channel.confirming:
            channel.published += 1
            channel.unconfirmed.add(channel.published)
        elif name == "channel.close":
            each.closing.add(step["ch"])
        elif name == "channel.open" and step["ch"] in each.closing:
            each.reopening.add(step["ch"])
        elif name == "access.request":
            key = (step["c"], step["ch"])
            self.pongs[key] = self.pongs.get(key, 0) + 1
            each.pings[step["ch"]] = each.pings.get(step["ch"], 0) + 1
        elif name in ("basic.recover", "basic.recover-async"):
            channel.unacked.clear()
        elif name in ("tx.rollback", "tx.commit"):
            if name == "tx.commit":
                each.committing.add(step["ch"])
            if name == "tx.rollback":
                channel.unacked.update(channel.in_tx)
            channel.in_tx.clear()
        elif name == "tx.select":
            channel.transactional = True

    # Settling ----------------------------------------------------------------------------------

    def settle(self, step, how, flags, keys, done, literal):
        """Acknowledges or rejects the deliveries of these keys, the last with `multiple`."""
        channel = self.channel(step)
        if literal is not None:
            self.add(step, how, {"delivery_tag": literal, **flags})
            if literal == 0 and flags.get("multiple"):
                self.settled(channel, list(channel.unacked))
            return
        if done is not None:
            tags = [channel.settled[done]]
        elif flags.get("multiple") and self.covered(channel, keys[-1]) == set(keys):
            tags = [channel.unacked[keys[-1]]]
        else:
            # Consumers of the channel alternate otherwise here: the same deliveries, one by one.
            tags = [channel.unacked[key] for key in keys]
            flags = {key: value for key, value in flags.items() if key != "multiple"}
        for tag in tags:
            self.sent_tags.add(tag)
            self.add(step, how, {"delivery_tag": tag, **flags})
        self.settled(channel, keys or [])

    def covered(self, channel, key):
        """What `multiple` up to this delivery would settle."""
        return {each for each, tag in channel.unacked.items() if tag <= channel.unacked[key]}

    def settled(self, channel, keys):
        for key in keys:
            tag = channel.unacked.pop(key)
            if channel.transactional:
                channel.in_tx[key] = tag
            channel.settled.append(tag)

    def holds_both_ends(self, number):
        """Whether what a channel of this connection holds could go to another of its channels."""
        each = self.peers.get(number)
        channels = [channel for channel in each.channels.values() if channel.open] if each else []
        return any(one.unacked and other.consumers and one is not other
                   for one in channels for other in channels)

    def limited(self):
        """Queues whose consumers share a limit or did so, as scripts and as transcripts name
        them."""
        wishes = [wish for each in self.peers.values() for channel in each.channels.values()
                  if channel.open and channel.shared
                  for known in (channel.consumers, channel.past, channel.consuming)
                  for wish in known.values()]
        return frozenset(name for wish in wishes
                         for name in (self.symbolic(wish.queue), self.plain(wish.queue)))

    def beside(self, channel):
        """Consumers of the queues that a commit of this channel settles for, as views name their
        deliveries: queues take its settles before its publishes, or behind some of them."""
        freed = {consumer for consumer, _ in channel.in_tx}
        known = channel.past | channel.consumers
        queues = {wish.queue for tag, wish in known.items() if self.plain(tag) in freed}
        return {(number, at, f"deliver {self.plain(tag)}")
                for number, each in self.peers.items() for at, other in each.channels.items()
                for tag, wish in other.consumers.items() if wish.queue in queues}

    # Carrying out ------------------------------------------------------------------------------

    def perform(self, step):
        """Carries out a step. Yields before each wait, so that all targets wait at once.

        The channel first answers a ping, so all before it is on its way to the queues; then the
        queues answer every connection, so they have it and have sent on what it caused; then they
        and the channels answer once more, behind those deliveries.
        """
        do = step.get("do")
        if do == "handshake":
            yield
            self.handshake(step)
        elif do == "drop":
            yield
            self.drop(step)
        elif do == "wait":
            yield
        else:
            self.flush(step)
            yield
            self.wait(step["c"])
        self.ask_first(step["c"])
        yield
        self.wait_all()
        self.ask_all()
        yield
        self.wait_all()

    def flush(self, step):
        """Writes the group, and behind it a ping for its channel if that is open then."""
        each, number = self.peers[step["c"]], step.get("ch", 0)
        pings = each.ping(peer.FENCE)
        # RabbitMQ closes the connection for a method that comes while a channel commits.
        busy = {*each.closing, *each.committing} - each.reopening
        ends_open = number not in busy
        if each.is_open(number) and ends_open:
            pings += each.ping(number)
        each.write(b"".join(self.group) + pings)

    def ask_first(self, number):
        """The connection of the step asks the queues, or, if it is gone, the runner's own."""
        each = self.peers.get(number)
        if each is None or each.eof:
            number, each = "control", self.control
        each.write(self.questions(number, each))

    def ask_all(self):
        """Every connection asks every queue it may, and its channels."""
        for number, each in self.living():
            open_channels = [n for n, channel in each.channels.items() if channel.open]
            asked = self.questions(number, each) + each.ping(*open_channels)
            # Who has nothing to answer is asked all the same: only so its end is read.
            each.write(asked or each.ping(peer.FENCE))

    def questions(self, number, each):
        """Bytes that ask all queues this connection may ask."""
        mine = [*self.shared, *self.owned.get(number, [])]
        return each.ask([queue for queue in mine if (number, queue) not in self.refused
                         and each.states.get(queue) not in ("gone", "locked")])

    def wait(self, number):
        each = self.peers[number]
        each.wait(each.idle)

    def wait_all(self):
        for _, each in self.living():
            each.wait(each.idle)
            if each is not self.control:
                each.wait(each.confirmed)

    def again(self):
        """One more round of answers, for what is late."""
        self.ask_all()
        yield
        self.wait_all()

    def drop(self, step):
        """Cuts a connection off and waits until the broker has noticed and tidied up."""
        each = self.peers[step["c"]]
        self.lives += 1
        life = f"{self.prefix}life{self.lives}"
        each.write(encoding.method(
            peer.FENCE, "queue.declare", {"queue": life, "exclusive": True}))
        each.asked.append(life)
        each.wait(each.idle)
        each.drop(step.get("reset", False))
        deadline = time.monotonic() + GONE_SECONDS
        while self.control.states.get(life) != "gone":
            if time.monotonic() > deadline:
                raise peer.Stuck("a dropped connection's exclusive queue stays")
            self.control.write(self.control.ask([life]))
            self.control.wait(self.control.idle)
        del self.control.states[life]

    def handshake(self, step):
        """Tries to open a connection and records how that ends."""
        settings = self.real(step["settings"])
        vhost = settings.pop("vhost", "/")
        login = {key: settings.pop(key) for key in ("user", "password", "mechanism", "response")
                 if key in settings}
        with wire.Wire(self.broker) as trial:
            trial.started(**login)
            tune = trial.next()
            if getattr(tune, "method", None) and tune.method.NAME == "Connection.Tune":
                tune_ok = {"channel_max": 2047, "frame_max": 131072, "heartbeat": 0} | settings
                trial.send(0, encoding.CLASSES["connection.tune-ok"](**tune_ok))
                trial.send(0, encoding.CLASSES["connection.open"](vhost))
                tune = trial.next()
            if tune is None:
                text = "eof"
            else:
                text = encoding.line(encoding.spelt(tune.method.NAME), vars(tune.method))
            self.record("handshake", 0, "end", text)

    # The end -----------------------------------------------------------------------------------

    def tidy(self, exchanges):
        """Closes every connection and deletes what the script made."""
        for each in self.peers.values():
            each.close()
        control = self.control
        data = b"".join(encoding.method(peer.FENCE, "queue.delete", {"queue": queue, "nowait": True})
                        for queue in self.shared)
        data += b"".join(
            encoding.method(peer.FENCE, "exchange.delete", {"exchange": self.real(each),
                                                          "nowait": True})
            for each in exchanges)
        control.states.clear()
        control.write(data + control.ping(peer.FENCE))
        control.wait(control.idle)

    def abandon(self):
        """Drops every connection after a failure."""
        for each in self.peers.values():
            each.socket.close()
