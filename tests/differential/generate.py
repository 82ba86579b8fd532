"""Random scripts: what a seed stands for.

A script is plain data: connections, and steps of one connection and channel each. Its writer looks
at what the reference has made of the steps so far, so most operations are sensible; the rest is
there to be refused. Names begin with `@`, what the server names is `$0` (queues), `%0` (consumers)
and `^0` (reply addresses), in order of appearance.
"""

import random

import arguments
import hostile

QUEUES = ["@q0", "@q1", "@q2", "@q3"]
EXCHANGES = ["@e0", "@e1", "@e2"]
KINDS = ["direct", "fanout", "topic", "headers"]
# Types of RabbitMQ's plugins. Those that choose one binding lead to one queue only, since the two
# brokers choose each in its own way: their shares are compared by tests/blackbox.
HISTORY = "x-recent-history"
CHOOSING = ["x-consistent-hash", "x-modulus-hash", "x-random"]
CHOSEN = QUEUES[0]
STANDARD = {"amq.direct": "direct", "amq.topic": "topic"}
KEYS = ["", "a", "a.b", "a.b.c", "b", "b.x.a"]
PATTERNS = ["#", "*", "a.#", "a.*", "*.b.*", "#.a", "a", "a.b", ""]
TAGS = ["t0", "t1", "t2"]
SIZES = [0, 1, 5, 100, 2048, 2049, 5000]
LARGE = [40000, 131064, 131065, 200000]
FEATURES = {"global-qos", "x-priority", "tx", "update-secret", "alternate-exchange", "cc",
            "reply-to", "framing"}
# Left out of a script, they leave the dice of the others alone.
LATER = {"ttl", "limits", "dead-letters", "priorities", "single-active", "types"}


def plain_name(name):
    """The name under which an object is found. Both brokers drop line ends where a name is declared;
    where it is only used, RabbitMQ does not."""
    return name.replace("\r", "").replace("\n", "")


class Writer:
    """Writes one script while it runs. Features in `without` are left out."""

    # Whether steps begin on a grid of time.
    paced = False

    def __init__(self, seed, without=frozenset()):
        self.seed, self.dice = seed, random.Random(seed)
        self.features = (FEATURES | LATER) - without
        # What there is: queues with their owners, exchanges with their types, consumers and modes
        # of channels, channels that hold deliveries.
        self.queues, self.exchanges = {}, {}
        self.consumers, self.modes, self.holding = {}, {}, set()
        self.invented = {"$": 0, "%": 0, "^": 0}
        # Whether a queue may go with its last consumer; whether consumers may share a limit.
        self.auto_delete, self.limits = False, False
        self.bodies = 0
        # Queues in which messages live for a time.
        self.mortal = 0
        self.at = (0, 1)
        self.connections = self.dice.choice([1, 2, 2, 2, 3])
        self.channels = self.dice.choice([1, 1, 2, 2, 3])
        self.settings = {str(n): {"frame_max": 8192}
                         for n in range(self.connections) if self.chance(0.15)}

    # Steps -------------------------------------------------------------------------------------

    def steps(self, reference):
        """Writes step after step; `reference` is the session of the target that is right."""
        for plan in self.plans():
            known = dict(self.exchanges)
            made = plan()
            for step in made if isinstance(made, list) else [made]:
                yield step
                self.observe(reference, step, known)

    def plans(self):
        """What writes each step, or a few together."""
        yield self.beginning
        for _ in range(self.dice.choice([0, 1, 1, 2])):
            yield self.listener
        for _ in range(self.dice.randint(4, 16)):
            yield self.step
        if self.chance(0.25):
            for _ in range(self.dice.randint(1, 3)):
                yield lambda: hostile.ending(self)

    def observe(self, reference, step, known):
        """Learns what has become of the step."""
        self.queues, self.consumers, self.modes = {}, {}, {}
        self.holding = set()
        for number, each in reference.everyone():
            for queue, state in sorted(each.states.items()):
                if state not in ("gone", "locked"):
                    owner = None if queue in reference.shared else number
                    self.queues.setdefault(plain_name(reference.symbolic(queue)), owner)
            for channel, found in sorted(each.channels.items()):
                if number != "control" and found.open:
                    self.observe_channel(reference, (number, channel), found)
        self.invented = dict(reference.invented)
        if (step["c"], step.get("ch"), "closed") in reference.lines:
            # Perhaps the exchanges of the step were declared after all; most were not.
            self.exchanges = known

    def observe_channel(self, reference, at, channel):
        if channel.consumers:
            self.consumers[at] = sorted(map(reference.plain, channel.consumers))
        if channel.unacked:
            self.holding.add(at)
        if channel.transactional or channel.confirming:
            self.modes[at] = "tx" if channel.transactional else "confirm"

    def place(self):
        """A connection and a channel; rather one that has consumers or deliveries."""
        busy = sorted({*self.consumers, *self.holding})
        if busy and self.chance(0.4):
            return self.dice.choice(busy)
        return self.dice.randrange(self.connections), self.dice.randint(1, self.channels)

    def beginning(self):
        """Something to work with."""
        ops = [self.queue_declare(fresh=True) for _ in range(self.dice.randint(1, 2))]
        if self.chance(0.6):
            ops.append(self.exchange_declare(fresh=True))
            ops += [self.bind() for _ in range(self.dice.randint(1, 3))]
        return self.grouped(ops)

    def listener(self):
        """A consumer from the start."""
        self.at = self.place()
        return self.grouped([self.qos(), self.consume()])

    def grouped(self, ops):
        ops = orderly([op for op in ops if op], self.auto_delete, self.limits)
        return {"c": self.at[0], "ch": self.at[1], "ops": self.without_overtaking(ops)}

    def without_overtaking(self, ops):
        """The part of a group up to a message that may pass an exchange with a history: on its way
        over the shard of that exchange, later methods of its channel may overtake it."""
        if HISTORY in self.exchanges.values():
            for nth, (name, given) in enumerate(ops):
                if name == "publish" and given["exchange"]:
                    return ops[:nth + 1]
        return ops

    def step(self):
        self.at = self.place()
        if self.chance(0.02):
            return {"c": self.at[0], "do": "drop", "reset": self.chance(0.5)}
        if self.chance(0.015):
            return {"c": self.at[0], "ch": 0, "ops": [["connection.close", {
                "reply_code": 200, "reply_text": "bye", "class_id": 0, "method_id": 0}]]}
        if self.chance(0.01) and "update-secret" in self.features:
            return {"c": self.at[0], "ch": 0, "ops": [["connection.update-secret", {
                "new_secret": "guest", "reason": "renewed"}]]}
        count = 1 if self.chance(0.6) else self.dice.randint(2, 6)
        if self.at in self.holding and self.chance(0.3):
            return self.grouped([self.settle() for _ in range(count)])
        return self.grouped([self.op() for _ in range(count)])

    def op(self):
        names = [name for name in WEIGHTS if name != "settle" or self.at in self.holding]
        weights = [WEIGHTS[name] for name in names]
        for _ in range(20):
            written = getattr(self, self.dice.choices(names, weights)[0])()
            if written:
                return written
        return self.publish()

    # Dice --------------------------------------------------------------------------------------

    def chance(self, probability):
        return self.dice.random() < probability

    def flags(self, **probabilities):
        """Flags that are set, each with its probability."""
        return {name: True for name, each in probabilities.items() if self.chance(each)}

    def some_queue(self, unknown=0.04):
        """Mostly a queue that should be there and is not someone else's."""
        mine = [name for name, owner in self.queues.items() if owner in (None, self.at[0])]
        if self.chance(unknown) or not self.queues:
            return self.dice.choice([*QUEUES, "", "@nosuch"])
        if mine and self.chance(0.97):
            return self.dice.choice(mine)
        return self.dice.choice(list(self.queues))

    def some_exchange(self, unknown=0.04):
        if self.chance(unknown):
            return self.dice.choice([*EXCHANGES, *STANDARD, "", "@nosuch", "amq.fanout"])
        return self.dice.choice([*self.exchanges, *self.exchanges, *STANDARD])

    def kind_of(self, exchange):
        return self.exchanges.get(exchange) or STANDARD.get(exchange, "direct")

    def key_for(self, exchange, pattern=False):
        """A routing key or a pattern. Those of shared exchanges begin with the script's name."""
        topic = self.kind_of(exchange) == "topic"
        key = self.dice.choice(PATTERNS if pattern and topic else KEYS)
        return f"@{key}" if exchange in STANDARD else key

    def headers(self):
        return {name: self.dice.choice([1, 2, "x", True, None, [1, "y"], {"z": 1}, -7, 1 << 40])
                for name in ("h1", "h2", "h3") if self.chance(0.5)}

    # Exchanges ---------------------------------------------------------------------------------

    def exchange_declare(self, fresh=False):
        name = self.dice.choice(EXCHANGES)
        kind, special = self.exchange_kind()
        if not fresh and self.chance(0.04):
            name = self.dice.choice(["amq.new", "amq.direct", "", "@a\nb\r", "amq.topic"])
        if name in self.exchanges and self.chance(0.7):
            kind, special = self.exchanges[name], {}
        given = {"exchange": name, "exchange_type": kind} | self.flags(
            durable=0.15, auto_delete=0.08, internal=0.04, nowait=0.08)
        given["type"] = given.pop("exchange_type")
        if not fresh and self.chance(0.7 if name in self.exchanges else 0.02):
            given |= {"passive": True}
        elif special:
            given["arguments"] = special
        elif "alternate-exchange" in self.features and self.chance(0.15):
            given["arguments"] = {"alternate-exchange": self.dice.choice(
                [*EXCHANGES, "amq.direct", "@nosuch"])}
        elif self.chance(0.05):
            given["arguments"] = {"nonsense": 1}
        if not given.get("passive"):
            self.exchanges.setdefault(plain_name(name), kind)
        return ["exchange.declare", given]

    def exchange_kind(self):
        """The type of a new exchange, and arguments of the type."""
        kind = self.dice.choice(KINDS)
        if "types" not in self.features or not self.chance(0.3):
            return kind, {}
        kind = self.dice.choice([HISTORY, HISTORY, *CHOOSING])
        if kind == HISTORY and self.chance(0.6):
            length = self.dice.choice([1, 2, 3, 3, 0, -1, "x", True])
            return kind, {"x-recent-history-length": length}
        if kind == CHOOSING[0] and self.chance(0.4):
            return kind, self.dice.choice([
                {"hash-header": "h1"}, {"hash-property": "message_id"}, {"hash-property": "app_id"},
                {"hash-header": "h1", "hash-property": "timestamp"}])
        return kind, {}

    def bind_chosen(self, exchange):
        """The one binding of an exchange that chooses, or one that it refuses."""
        key = "1" if self.chance(0.85) else self.dice.choice(["0", "-3", "x", "1.5", ""])
        if self.kind_of(exchange) != CHOOSING[0]:
            key = "1"
        return ["queue.bind", {"queue": CHOSEN, "exchange": exchange, "routing_key": key}]

    def exchange_delete(self):
        name = self.some_exchange()
        if name in STANDARD and self.chance(0.9):
            return None
        self.exchanges.pop(name, None)
        return ["exchange.delete", {"exchange": name} | self.flags(if_unused=0.4, nowait=0.1)]

    def bind(self):
        exchange = self.some_exchange()
        if exchange in ("amq.fanout", "amq.headers"):
            return None
        if self.kind_of(exchange) in CHOOSING:
            return self.bind_chosen(exchange)
        key = self.key_for(exchange, pattern=True)
        given = {"routing_key": key} | self.flags(nowait=0.1)
        if self.kind_of(exchange) == "headers":
            given["arguments"] = self.binding_headers()
        elif self.chance(0.05):
            given["arguments"] = {"n": self.dice.randrange(2)}
        # RabbitMQ passes a history on to an exchange in the wrong order, or closes the connection.
        onward = exchange in self.exchanges and self.kind_of(exchange) != HISTORY
        if onward and len(self.exchanges) > 1 and self.chance(0.2):
            other = self.dice.choice(sorted(self.exchanges))
            return ["exchange.bind", {"source": exchange, "destination": other} | given]
        return ["queue.bind", {"queue": self.some_queue(), "exchange": exchange} | given]

    def binding_headers(self):
        how = self.dice.choice([None, "all", "any", "all", "any", "all-with-x", "any-with-x"])
        if self.chance(0.04):
            how = self.dice.choice(["bad", 1])
        return self.headers() | ({"x-match": how} if how else {})

    def unbind(self):
        bound = self.bind()
        if bound is None:
            return None
        name, given = bound
        if name == "exchange.bind":
            return ["exchange.unbind", given]
        given.pop("nowait", None)
        return ["queue.unbind", given]

    # Queues ------------------------------------------------------------------------------------

    def queue_declare(self, fresh=False):
        name = self.dice.choice(QUEUES[:2] if fresh or self.chance(0.5) else QUEUES)
        flags = self.flags(durable=0.3, exclusive=0.12, auto_delete=0.1)
        if not fresh and self.chance(0.05):
            name = self.dice.choice(["amq.mine", "@a\r\nb", "", "", "@" + "n" * 150])
        if self.chance(0.1):
            name = ""
        given = {"queue": name} | flags
        if not fresh and self.chance(0.12):
            return ["queue.declare", {"queue": self.some_queue(0.2), "passive": True}]
        if name in self.queues and self.chance(0.7):
            return ["queue.declare", {"queue": name, "passive": True}]
        if self.chance(0.15):
            given["arguments"] = self.dice.choice([
                {"x-queue-type": "classic"}, {"x-queue-mode": "lazy"}, {"nonsense": 1},
                {"x-queue-mode": "default"}, {"x-queue-mode": "bad"}])
        elif special := self.queue_arguments():
            given["arguments"] = special
        if name == "":
            name = f"${self.invented['$']}"
            self.invented["$"] += 1
        elif self.chance(0.1):
            given["nowait"] = True
        self.auto_delete |= given.get("auto_delete", False)
        self.queues.setdefault(plain_name(name), self.at[0] if given.get("exclusive") else None)
        return ["queue.declare", given]

    def queue_arguments(self):
        """Arguments that change what becomes of messages."""
        return arguments.of_queue(self)

    def expiration(self):
        """How long a message lives, as its publisher says."""
        return arguments.expiration(self)

    def queue_delete(self):
        name = self.some_queue()
        self.queues.pop(name, None)
        flags = self.flags(if_unused=0.3, if_empty=0.3, nowait=0.1)
        return ["queue.delete", {"queue": name} | flags]

    def purge(self):
        return ["queue.purge", {"queue": self.some_queue()} | self.flags(nowait=0.1)]

    # Messages ----------------------------------------------------------------------------------

    def publish(self):
        exchange = "" if self.chance(0.55) else self.some_exchange()
        if exchange in ("amq.fanout", "amq.headers"):
            return None
        if self.modes.get(self.at) == "tx" and HISTORY in self.exchanges.values():
            # RabbitMQ keeps it before its commit, and after a rollback too.
            exchange = ""
        key = self.some_queue(0.1) if exchange == "" else self.key_for(exchange)
        if exchange == "" and self.queues and self.chance(0.85):
            key = self.dice.choice(list(self.queues))
        # Before 4.2 no transaction holds a direct reply.
        replies = self.invented["^"] and self.modes.get(self.at) != "tx"
        if exchange == "" and replies and self.chance(0.3):
            key = f"^{self.dice.randrange(self.invented['^'])}"
        self.bodies += 1
        given = {
            "id": f"m{self.bodies}", "exchange": exchange, "routing_key": key,
            "size": self.dice.choice(LARGE if self.chance(0.03) else SIZES),
            "properties": self.properties()}
        if "dead-letters" in self.features:
            # So that a message is known wherever it comes from.
            given["properties"]["message_id"] = given["id"]
        if self.chance(0.03):
            given["cut"] = self.dice.choice([10, 1000])
            given["size"] = min(given["size"], 5000)
        return ["publish", given | self.flags(mandatory=0.3)]

    def properties(self):
        given = {}
        if self.chance(0.4):
            given["delivery_mode"] = self.dice.choice([1, 2])
        if self.chance(0.25):
            given["headers"] = self.headers()
        if "cc" in self.features and self.chance(0.12):
            given.setdefault("headers", {}).update(self.copies())
        for name, value, probability in PROPERTIES:
            if self.chance(probability):
                given[name] = value
        if "ttl" in self.features and self.chance(0.3 if self.paced else 0.06):
            given["expiration"] = self.expiration()
        if "priorities" in self.features and self.chance(0.15):
            given["priority"] = self.dice.choice([0, 1, 2, 9])
        replies = "reply" in self.consumers.get(self.at, [])
        if "reply-to" in self.features and self.chance(0.5 if replies else 0.01):
            given["reply_to"] = "amq.rabbitmq.reply-to"
        return given

    def copies(self):
        """CC and BCC, sometimes not as they must be."""
        places = [self.some_queue(0.2) or "a", *KEYS[1:4]]
        lists = {name: self.dice.sample(places, self.dice.randint(0, 2))
                 for name in ("CC", "BCC") if self.chance(0.6)}
        if self.chance(0.05):
            lists["CC"] = self.dice.choice(["a", [1], 5])
        return lists

    def consume(self):
        if "reply-to" in self.features and self.chance(0.06):
            return self.consume_replies()
        queue = self.some_queue()
        tags = self.consumers.setdefault(self.at, [])
        tag = self.dice.choice(TAGS)
        if tag in tags and self.chance(0.9):
            tag = ""
        given = {"queue": queue, "consumer_tag": tag} | self.flags(
            no_ack=0.3, exclusive=0.06, no_local=0.05)
        if tag and self.chance(0.1):
            given["nowait"] = True
        if "x-priority" in self.features and self.chance(0.12):
            given["arguments"] = {"x-priority": self.dice.choice([-1, 0, 1, 5])}
        elif self.chance(0.03):
            given["arguments"] = {"nonsense": True}
        if tag == "":
            tag = f"%{self.invented['%']}"
            self.invented["%"] += 1
        tags.append(tag)
        return ["basic.consume", given]

    def consume_replies(self):
        return ["basic.consume", {"queue": "amq.rabbitmq.reply-to", "consumer_tag": "reply",
                                  "no_ack": not self.chance(0.05)}]

    def cancel(self):
        tags = self.consumers.get(self.at)
        if not tags or self.chance(0.05):
            return ["basic.cancel", {"consumer_tag": "unknown"}] if self.chance(0.2) else None
        tag = tags.pop(self.dice.randrange(len(tags)))
        return ["basic.cancel", {"consumer_tag": tag} | self.flags(nowait=0.1)]

    def get(self):
        return ["basic.get", {"queue": self.some_queue()} | self.flags(no_ack=0.3)]

    def settle(self):
        how = self.dice.choice(["basic.ack", "basic.ack", "basic.nack", "basic.reject"])
        given = {"how": how}
        if how != "basic.reject":
            given["multiple"] = self.chance(0.35)
        if how != "basic.ack":
            given["requeue"] = self.chance(0.6)
        if self.chance(0.02):
            return ["settle", given | {"done": self.dice.randrange(10)}]
        if self.chance(0.03):
            return ["settle", given | {"literal": self.dice.choice([0, 0, 99, 1 << 40])}]
        return ["settle", given | {"which": self.dice.choice([0, 0, 0, -1, 1, 2])}]

    def recover(self):
        if self.chance(0.1):
            return ["basic.recover-async", {"requeue": True}]
        return ["basic.recover", {"requeue": not self.chance(0.03)}]

    def qos(self):
        whole = "global-qos" in self.features and self.chance(0.3)
        self.limits |= whole
        given = {"prefetch_count": self.dice.choice([0, 1, 1, 2, 3, 10])}
        if self.chance(0.02):
            given["prefetch_size"] = 1
        return ["basic.qos", given | ({"global_qos": True} if whole else {})]

    # Channels ----------------------------------------------------------------------------------

    def mode(self):
        """Confirms or transactions, now and then the other one after the first."""
        wanted = "tx" if "tx" in self.features and self.chance(0.3) else "confirm"
        had = self.modes.setdefault(self.at, wanted)
        if had != wanted and self.chance(0.8):
            return None
        if wanted == "tx":
            return ["tx.select", {}]
        return ["confirm.select", self.flags(nowait=0.2)]

    def transaction(self):
        if "tx" not in self.features or (self.modes.get(self.at) != "tx" and self.chance(0.97)):
            return None
        return [self.dice.choice(["tx.commit", "tx.commit", "tx.rollback"]), {}]

    def flow(self):
        return ["channel.flow", {"active": not self.chance(0.05)}]

    def ticket(self):
        return ["access.request", {"realm": "/data", "active": True}]

    def channel_close(self):
        return ["channel.close", {"reply_code": 200, "reply_text": "", "class_id": 0,
                                  "method_id": 0}]


def orderly(ops, auto_delete, limits):
    """The part of a group whose outcome RabbitMQ leaves to no race between its processes.

    `auto_delete`: there may be queues that go with their last consumers. `limits`: consumers may
    share a limit.
    """
    kept, seen = [], set()
    for op in ops:
        marks = races(*op, auto_delete, limits)
        if any(clashes(mark, seen) for mark in marks):
            break
        kept.append(op)
        seen |= marks
    return kept


def races(name, given, auto_delete, limits):
    """What an operation must not meet in its group."""
    if name == "basic.qos" and given.get("global_qos"):
        return {"settles for new limits"}
    if name == "settle":
        return {f"settles {given['how']} {given.get('requeue')}"}
    if name.startswith("basic.recover"):
        return {"settles by recovering"}
    marks = {"closes"} if name in ("channel.close", "tx.commit") else {"other"}
    if name in ("queue.delete", "queue.declare"):
        marks.add(f"{name} {given['queue']}")
    if name in ("basic.consume", "basic.cancel"):
        marks.add(f"consumer {given['consumer_tag']}")
    if name == "basic.cancel" and auto_delete:
        marks.add("may end a queue")
    if name == "queue.delete" and given.get("if_empty") and limits:
        marks.add("if empty")
    return marks


def clashes(mark, seen):
    """Whether operations of these marks may overtake each other within RabbitMQ."""
    # What follows a close is obeyed or not, as channel and connection come to know of the close;
    # what follows a commit closes the connection if the channel is not done with it.
    # A queue takes settles before anything else that waits (rabbit_amqqueue_process,
    # prioritise_cast), and a channel counts what it has been delivered when it gets a shared limit.
    # A channel knows a consumer when its queue has answered; until then a cancel
    # makes it crash (541), and the tag, or a second one of the server's, is anyone's.
    # A queue answers the cancel of its last consumer, and deletes itself after that
    # (rabbit_amqqueue_process, handle_call of basic_cancel): what follows finds it or not.
    if "closes" in seen or "may end a queue" in seen:
        return True
    # A message leaves for a consumer that shares a limit when its permit has come.
    if mark == "if empty" and seen:
        return True
    # What comes again after a recover is there for the next one, or is still on its way.
    if mark == "settles by recovering" and mark in seen:
        return True
    if mark.startswith("settles") and seen - {mark, "closes"}:
        return True
    if mark == "other" and any(each.startswith("settles") for each in seen):
        return True
    # A channel takes a queue that is deleted and declared again for one that came back, and hears
    # of the end of a deleted queue's consumers at any time.
    deletes = any(each.startswith("queue.delete") for each in seen)
    if mark.startswith("queue.declare "):
        return deletes
    return mark.startswith("consumer ") and (deletes or mark in seen)


PROPERTIES = [
    ("content_type", "text/plain", 0.1), ("content_encoding", "utf-8", 0.05),
    ("priority", 3, 0.05), ("correlation_id", "corr", 0.1), ("reply_to", "somewhere", 0.05),
    ("message_id", "id-1", 0.05), ("timestamp", 1700000000, 0.05), ("type", "kind", 0.05),
    ("user_id", "guest", 0.05), ("user_id", "other", 0.01), ("app_id", "app", 0.05),
    ("cluster_id", "c", 0.03)]

WEIGHTS = {
    "publish": 34, "consume": 8, "get": 7, "settle": 30, "queue_declare": 5, "exchange_declare": 4,
    "bind": 8, "unbind": 3, "queue_delete": 2, "exchange_delete": 1.5, "purge": 2, "cancel": 4,
    "recover": 1.5, "qos": 3, "mode": 4, "transaction": 6, "flow": 0.4, "ticket": 0.3,
    "channel_close": 0.7}
