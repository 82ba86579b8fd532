"""The behaviours of AMQP 0-9-1 that clients and their test suites depend on, a row each.

A test says by `@pytest.mark.row(section, title)` which behaviour it shows. `compatibility.py` makes
docs/compatibility.md of both. `source` is the file and line of RabbitMQ 4.3.5 that decides.
"""

from typing import NamedTuple


class Row(NamedTuple):
    title: str
    answer: str
    source: str


def section(*rows):
    """Rows by title."""
    by_title = {row[0]: Row(*row) for row in rows}
    assert len(by_title) == len(rows), "two rows of one title"
    return by_title


SECTIONS = {
    "Errors": section(
        ("Reply text", "`NAME - explanation`; a text of more than 255 bytes is cut to 252 and "
         "three dots",
         "rabbit_binary_generator.erl:217"),
        ("Soft code", "403, 404, 405, 406: channel.close; the other channels go on",
         "rabbit_binary_generator.erl:197"),
        ("Hard code", "501 to 505, 530, 540: connection.close on channel 0, then the socket is "
         "closed",
         "rabbit_binary_generator.erl:197"),
        ("Soft code on channel 0", "connection.close", "rabbit_binary_generator.erl:197"),
        ("Class and method id", "those of the failed method; 0 and 0 if there is none",
         "rabbit_binary_generator.erl:192"),
        ("After channel.close", "everything on the channel except close and close-ok is ignored",
         "rabbit_channel.erl:1128"),
        ("After connection.close", "everything except close and close-ok is ignored",
         "rabbit_reader.erl:1417"),
        ("Closes of both sides cross", "both are answered", "rabbit_channel.erl:1123"),
        ("Before the error", "earlier methods are carried out", "rabbit_channel.erl:799"),
        ("Unacknowledged messages", "are requeued when an error closes their channel",
         "rabbit_channel.erl:799"),
        ("Queue whose messages cannot be read", "404 `queue 'q' in vhost '/' has crashed and "
         "failed "
         "to restart` for basic.get and basic.consume; consumers are cancelled, publishes nacked, "
         "tx.commit is answered with 406 `partial tx completion`; a purge or a deletion cures it",
         "rabbit_amqqueue.erl, priv_absent"),
        ("close-ok that never comes", "exclusive queues are deleted at once anyway",
         "rabbit_reader.erl:755"),
    ),
    "Handshake": section(
        ("Protocol header", "`AMQP 0 0 9 1` and `AMQP 1 1 0 9`, whole or in pieces",
         "rabbit_reader.erl:1165"),
        ("Another protocol header", "answered with `AMQP 0 0 9 1`; the socket is closed",
         "rabbit_reader.erl:1165"),
        ("connection.start", "0-9, `en_US`, mechanisms with `PLAIN AMQPLAIN`",
         "rabbit_reader.erl:1201"),
        ("server-properties", "product and capabilities, all true", "rabbit_reader.erl:210"),
        ("PLAIN and AMQPLAIN", "log in", "rabbit_reader.erl:1509"),
        ("First user and vhost", "created at the first start; later changes of the configuration "
         "have no effect", "rabbit.erl:1176"),
        ("Refused login", "403 `Login was refused using authentication mechanism PLAIN. For "
         "details see the broker logfile.` for a client with authentication_failure_close",
         "rabbit_reader.erl:1592"),
        ("Guessed passwords", "a failed login delays the next answer to its address",
         "rabbit_reader.erl:1592"),
        ("Refused login, older client", "the socket is closed after 3 s without a reply",
         "rabbit_reader.erl:906"),
        ("Unknown mechanism", "503 `unknown authentication mechanism 'X'`",
         "rabbit_reader.erl:1509"),
        ("Malformed response", "502", "rabbit_auth_mechanism_plain.erl:42"),
        ("connection.tune", "channel_max 2047, frame_max 131072, heartbeat 60", "Makefile:22"),
        ("tune-ok", "lower values of the client apply", "rabbit_reader.erl:1290"),
        ("tune-ok out of bounds", "530 `negotiated frame_max = 0 (no limit) is higher than the "
         "maximum allowed value (131072)`, `… is lower than the minimum allowed value (4096)`",
         "rabbit_reader.erl:1474"),
        ("Heartbeats sent", "every half interval while nothing else is sent",
         "rabbit_heartbeat.erl:57"),
        ("Heartbeats expected", "a client that is silent for two to three intervals is dropped "
         "without a close; any traffic counts", "rabbit_heartbeat.erl:66"),
        ("Heartbeat 0", "none are sent, none expected", "rabbit_heartbeat.erl:57"),
        ("Missing vhost", "530 `vhost nosuch not found`", "rabbit_reader.erl:1457"),
        ("Handshake not finished", "the socket is closed after 10 s", "rabbit_reader.erl:647"),
        ("Pipelined handshake", "start-ok, tune-ok, open and channel.open may be sent in one write",
         "rabbit_reader.erl:1290"),
        ("Method in the wrong state", "504 `unexpected method in connection state running`",
         "rabbit_reader.erl:1419"),
        ("Close by the client", "exclusive queues are deleted before close-ok",
         "rabbit_reader.erl:755"),
        ("End of the socket after close-ok", "is left to the client, whose further closes get a "
         "close-ok each; the broker gives up after the heartbeat interval, at most 30 s",
         "rabbit_reader.erl:755"),
        ("Shutdown", "320 `broker forced connection closure with reason 'shutdown'`",
         "rabbit_reader.erl:622"),
        ("Channel before connection.open", "505 `type 1, all octets = <<0,20,0,10,0>>`",
         "rabbit_reader.erl:1090"),
        ("Close during the handshake", "close-ok", "rabbit_reader.erl:1417"),
        ("No limit", "channel_max and frame_max may be 0", "rabbit_reader.erl:1474"),
        ("Limit of connections", "530 `connection refused: node connection limit (N) is reached`",
         "rabbit_reader.erl:1430"),
        ("Limit of a vhost's connections", "530 `access to vhost 'v' refused for user 'u': "
         "connection limit (N) is reached`; 0 lets nobody in", "rabbit_reader.erl:1450"),
        ("Limit of a user's connections", "530 `connection refused for user 'u': user connection "
         "limit (N) is reached`; 0 lets nobody in", "rabbit_reader.erl:1468"),
        ("connection.blocked", "sent after the first publish while disk or memory is short, with "
         "`low on disk` or `low on memory`; connection.unblocked follows",
         "rabbit_reader.erl:1751"),
        ("connection.blocked, more than one reason", "`low on disk & memory`; a client that is "
         "already blocked is not told another reason", "rabbit_reader.erl:1832"),
        ("connection.update-secret", "update-secret-ok; open channels stay open",
         "rabbit_reader.erl:1385"),
    ),
    "Framing": section(
        ("frame_max", "applies in both directions, per connection", "rabbit_reader.erl:1138"),
        ("Header larger than frame_max", "is not sent: the channel of the consumer, of the get or "
         "of the publish that is returned is closed with 406 `a message's header needs a frame "
         "of N "
         "octets, which is larger than the negotiated frame_max (M)`; in a queue the message stays",
         "rabbit_binary_generator.erl, build_simple_content_frames"),
        ("Frame too large", "501 `type 3, all octets = <<>>: {frame_too_large,9000,8184}`; a "
         "payload of up to frame_max bytes is accepted", "rabbit_reader.erl:1138"),
        ("Frame too large before tuning", "the limit is 8192 bytes", "rabbit_reader.erl:303"),
        ("Wrong end of frame", "501 `type 1, all octets = <<…>>: {invalid_frame_end_marker,205}`",
         "rabbit_reader.erl:1161"),
        ("Content without a method", "505 `expected method frame, got non method frame instead`",
         "rabbit_command_assembler.erl:77"),
        ("No header after a publish", "505 `expected content header for class 60, got non content "
         "header frame instead`", "rabbit_command_assembler.erl:97"),
        ("Header of another class", "505 `expected content header for class 60, got one for class "
         "50 instead`", "rabbit_command_assembler.erl:101"),
        ("No body after a header", "505 `expected content body, got non content body frame "
         "instead`", "rabbit_command_assembler.erl:121"),
        ("Body longer than announced", "501 `content body frame exceeds remaining content size`",
         "rabbit_command_assembler.erl:116"),
        ("Announced body above 512 MiB", "501 `content body size N exceeds maximum allowed size "
         "536870912`", "rabbit_command_assembler.erl:91"),
        ("Body in pieces", "pieces of any size, also empty ones, with heartbeats between them",
         "rabbit_command_assembler.erl:105"),
        ("Channels interleave", "the contents of two channels may be mixed frame by frame",
         "rabbit_reader.erl:1095"),
        ("Unknown frame type", "501 `type 9, all octets = <<…>>: unknown_frame`",
         "rabbit_reader.erl:1084"),
        ("Heartbeat on a channel", "505 `type 8, all octets = <<>>`", "rabbit_reader.erl:1085"),
        ("Content on channel 0", "505 `type 2, all octets = <<…>>`", "rabbit_reader.erl:1072"),
        ("Malformed UTF-8 in a short string", "501 `Malformed UTF-8 in shortstr`",
         "rabbit_binary_parser.erl:158"),
        ("Unknown class or method", "540", "rabbit_framing_amqp_0_9_1.erl:259"),
        ("Arguments that end too early", "501 `cannot decode <<…>>`",
         "rabbit_command_assembler.erl:68"),
        ("Close while the client writes", "the client still reads connection.close",
         "rabbit_reader.erl:935"),
        ("Garbage", "closes only its own connection", "rabbit_reader.erl:1138"),
        ("Table that cannot be read", "502 `unknown field type 90`", "rabbit_binary_parser.erl:37"),
        ("Nested tables", "up to 1024 levels in headers, arguments and client-properties; more are "
         "502 `field table nested too deeply`", "rabbit_binary_parser.erl:37"),
        ("Large tables of arguments", "declares, bindings and consumers with more than 16 KiB are "
         "406 `arguments of 20011 bytes are larger than the limit of 16384`",
         "rabbit_binary_parser.erl:37"),
    ),
    "Channels": section(
        ("Second open", "504 `second 'channel.open' seen`", "rabbit_channel.erl:1114"),
        ("First method is not open", "504 `expected 'channel.open'`", "rabbit_channel.erl:1117"),
        ("Number above channel_max", "is accepted; only open channels are counted",
         "rabbit_reader.erl:976"),
        ("More than channel_max", "530 `number of channels opened (2) has reached the negotiated "
         "channel_max (2)`; a channel counts until both sides have closed it",
         "rabbit_reader.erl:976"),
        ("Method on a closed channel", "504 `expected 'channel.open'`", "rabbit_channel.erl:1117"),
        ("close-ok that answers nothing", "ignored", "rabbit_channel.erl:1117"),
        ("Numbers", "can be reused after close-ok", "rabbit_reader.erl:1119"),
        ("channel.flow(true)", "flow-ok(true)", "rabbit_channel.erl:1648"),
        ("channel.flow(false)", "540 `active=false`", "rabbit_channel.erl:1651"),
        ("Method of the server", "503 `unimplemented method`", "rabbit_channel.erl:1653"),
        ("Limit of channels", "530 `number of channels opened on node 'n' has reached the maximum "
         "allowed limit of N`", "rabbit_reader.erl:1017"),
        ("Limit of a user's channels", "530 `number of channels opened for user 'u' has reached "
         "the maximum allowed user limit of (N)`, on all connections of the user together; newer "
         "series leave the parentheses out", "rabbit_reader.erl:1024"),
    ),
    "Exchanges": section(
        ("Default set", "the default exchange, amq.direct, amq.fanout, amq.topic, amq.headers, "
         "amq.match, amq.rabbitmq.trace (internal); durable", "rabbit_vhost.erl:254"),
        ("Default exchange", "routes by queue name", "rabbit_exchange.erl:399"),
        ("Unknown type", "406 `unknown exchange type 'x'`", "rabbit_exchange.erl:190"),
        ("Reserved name", "403 `exchange name 'amq.x' contains reserved prefix 'amq.*'` unless it "
         "exists", "rabbit_channel.erl:1065"),
        ("After a restart", "durable exchanges exist with their arguments; so does a binding if "
         "both its ends are durable", "rabbit_binding.erl:119"),
        ("Declared again", "type, durable, auto_delete and internal must be equal, other "
         "arguments need not",
         "rabbit_exchange.erl:205"),
        ("Declared otherwise", "406 `inequivalent arg 'type' for exchange 'x' in vhost '/': "
         "received 'fanout' but current is 'direct'`", "rabbit_misc.erl:331"),
        ("Passive", "compares nothing", "rabbit_channel.erl:2676"),
        ("Passive, missing", "404 `no exchange 'x' in vhost '/'`", "rabbit_amqqueue.erl:659"),
        ("Default exchange declared, deleted, bound",
         "403 `operation not permitted on the default exchange`", "rabbit_channel.erl:1029"),
        ("Standard exchange deleted", "403 `deletion of system exchange 'amq.topic' in vhost '/' "
         "not allowed`", "rabbit_channel.erl:1036"),
        ("Delete if-unused", "406 `exchange 'x' in vhost '/' in use` while it has bindings",
         "rabbit_channel.erl:2595"),
        ("Delete of a missing object", "delete-ok", "rabbit_channel.erl:2589"),
        ("Delete", "deletes the bindings too", "rabbit_channel.erl:2589"),
        ("Line ends in names", "CR and LF are dropped, in the argument alternate-exchange too",
         "rabbit_channel.erl:1069"),
        ("Bind to a missing object", "404 for the queue or the exchange", "rabbit_binding.erl:103"),
        ("Unbind of a missing binding", "unbind-ok", "rabbit_binding.erl:143"),
        ("Exchange to exchange", "also through internal exchanges; cycles end",
         "rabbit_exchange.erl:405"),
        ("Several bindings match", "a queue gets the message once", "rabbit_exchange.erl:405"),
        ("Bad x-match", "406 `Invalid x-match field value …`",
         "rabbit_exchange_type_headers.erl:90"),
        ("Auto-delete", "deleted with its last binding as a source, never before it had one",
         "rabbit_db_binding.erl:348"),
        ("Limit of exchanges", "406 `cannot declare exchange 'x' in vhost '/': exchange limit of "
         "N is reached`", "rabbit_exchange.erl:165"),
        ("Alternate exchange", "gets messages that no binding takes; chains are followed, cycles "
         "end",
         "rabbit_exchange.erl:434"),
        ("Alternate exchange, missing", "ignored until it exists", "rabbit_exchange.erl:434"),
        ("Alternate exchange, declared otherwise", "406 `inequivalent arg …`",
         "rabbit_exchange.erl:231"),
        ("Alternate exchange, no name", "406 `invalid type 'signedint' for arg "
         "'alternate-exchange' in exchange 'x' in vhost '/'`", "rabbit_channel.erl:2642"),
    ),
    "Exchange types": section(
        ("Hash exchanges", "`x-consistent-hash` and `x-modulus-hash`: a message goes to one binding, "
         "by the first of its routing keys; the hash itself is not RabbitMQ's",
         "rabbit_exchange_type_consistent_hash.erl:52, rabbit_exchange_type_modulus_hash.erl:41"),
        ("Weights", "the binding key of `x-consistent-hash`; 406 `The binding key must be an "
         "integer: <<\"k\">>` or `The binding key must be greater than 0`; more than 4294967295 "
         "counts as that, where RabbitMQ allows 10000",
         "rabbit_exchange_type_consistent_hash.erl:94"),
        ("A queue joins or leaves", "only its share of the keys moves",
         "rabbit_exchange_type_consistent_hash.erl:181"),
        ("Several bindings of a queue", "their weights add up",
         "rabbit_exchange_type_consistent_hash.erl:158"),
        ("hash-header", "its value and type are hashed; messages without it go to one queue",
         "rabbit_exchange_type_consistent_hash.erl:252"),
        ("hash-property", "`correlation_id`, `message_id` or `timestamp`, else 406 `Unsupported "
         "property: p`; 406 `hash-header and hash-property are mutually exclusive`; a property "
         "that is not UTF-8 counts as absent", "rabbit_exchange_type_consistent_hash.erl:74"),
        ("x-modulus-hash, x-random", "binding keys mean nothing; `x-random` chooses by chance among "
         "bindings", "rabbit_exchange_type_random.erl:39"),
        ("Between exchanges", "exchanges can be bound, alternate exchanges apply",
         "rabbit_exchange.erl:405"),
        ("x-local-random", "chooses by chance among queues of the node, which is all; 406 `Non "
         "empty binding 'k' key not permitted`, and `Destination not found` for an exchange",
         "rabbit_exchange_type_local_random.erl:86"),
        ("After a restart", "a key leads to the same queue",
         "rabbit_exchange_type_consistent_hash.erl:117"),
        ("x-recent-history", "keeps its last 20 messages, or `x-recent-history-length`, and routes to "
         "every binding; a queue gets them with each new binding, before the binding is answered, "
         "and everything after it once; more than 4 MiB are not kept, unless it is one message",
         "rabbit_exchange_type_recent_history.erl:40, 70"),
        ("x-recent-history-no-store", "a message with this header, if it is true, is not kept",
         "rabbit_exchange_type_recent_history.erl:112"),
        ("x-recent-history-length", "a positive integer, else 406 `Invalid argument 0, "
         "'x-recent-history-length' must be a positive integer`; at most 4096",
         "rabbit_exchange_type_recent_history.erl:46"),
        ("Histories between exchanges", "messages by way of other exchanges are kept; an exchange that "
         "is bound routes what was kept; RabbitMQ closes the connection if that leads nowhere",
         "rabbit_exchange_type_recent_history.erl:80"),
        ("Publishing to x-recent-history", "from any connection, with confirms, mandatory, tx, and as "
         "a dead letter; in Ringtail with several shards, methods behind an unconfirmed publish may "
         "reach a queue before it", "rabbit_exchange_type_recent_history.erl:40"),
        ("Histories after a restart", "are forgotten; RabbitMQ keeps them since 4.0, where they are "
         "in Khepri", "rabbit_db_rh_exchange.erl:53"),
        ("x-message-deduplication", "routes to every binding, but a value of the header "
         "`x-deduplication-header` only once; what it does not route is confirmed, goes to the "
         "alternate exchange, or is returned",
         "rabbit_message_deduplication_exchange.ex (noxdafox, 0.7)"),
        ("x-cache-size", "so many values are remembered, the oldest makes room; needed, else 406 "
         "`Missing or invalid argument, 'x-cache-size' must be an integer greater than 0`",
         "rabbit_message_deduplication_exchange.ex (noxdafox, 0.7)"),
        ("x-cache-ttl", "for so many milliseconds; the headers `x-cache-ttl` and "
         "`x-deduplication-ttl` count before the argument; 406 `Invalid argument, 'x-cache-ttl' must "
         "be an integer greater than 0`",
         "rabbit_message_deduplication_exchange.ex (noxdafox, 0.7)"),
        ("x-cache-persistence", "`memory`: a restart forgets the values; `disk` is refused: not built "
         "yet", "rabbit_message_deduplication_exchange.ex (noxdafox, 0.7)"),
    ),
    "Queues": section(
        ("Deduplication", "with `x-message-deduplication` a message does not enter, and is confirmed, "
         "while one in the queue, unacknowledged ones included, has the same value of "
         "`x-deduplication-header`; a restart forgets the values",
         "rabbit_message_deduplication_queue.ex (noxdafox, 0.7)"),
        ("Empty name", "the server names it `amq.gen-` and 22 characters",
         "rabbit_channel.erl:2483"),
        ("Empty name later", "the queue the channel declared last", "rabbit_channel.erl:995"),
        ("Empty name, none declared", "404 `no previously declared queue`",
         "rabbit_channel.erl:995"),
        ("Reserved name", "403 `queue name 'amq.x' contains reserved prefix 'amq.*'`, even if the "
         "queue exists", "rabbit_channel.erl:1065"),
        ("Reserved name, passive", "declare-ok, or 404", "rabbit_channel.erl:2558"),
        ("Longest name", "255 bytes", "rabbit_channel.erl:2476"),
        ("Line ends in names", "CR and LF are dropped wherever a queue is named",
         "rabbit_channel.erl:1069"),
        ("Passive, missing", "404 `no queue 'q' in vhost '/'`", "rabbit_amqqueue.erl:659"),
        ("Exclusive, another connection", "405 `cannot obtain exclusive access to locked queue 'q' "
         "in vhost '/'. …` for declare, bind, consume, get, purge and delete",
         "rabbit_amqqueue.erl:826"),
        ("Exclusive, published to by others", "routed", "rabbit_amqqueue.erl:826"),
        ("Exclusive, declared otherwise by its owner", "405", "rabbit_amqqueue.erl:826"),
        ("Exclusive and durable", "deleted with its connection like any exclusive queue",
         "rabbit_channel.erl:2477"),
        ("After a restart", "durable queues that are not exclusive exist with their arguments; "
         "this holds from declare-ok on, however the process ends", "rabbit_amqqueue.erl:145"),
        ("Declared otherwise", "406 `inequivalent arg 'durable' for queue 'q' in vhost '/': "
         "received 'true' but current is 'false'`; a missing argument is `none`, one "
         "beside it `the value '10' of type 'signedint'`", "rabbit_misc.erl:331"),
        ("Compared properties", "durable, auto_delete, exclusive, known arguments; without "
         "x-queue-type "
         "it is classic, integers of different widths are equal, unknown arguments are ignored",
         "rabbit_amqqueue.erl:871"),
        ("Invalid argument", "406 `invalid arg 'x-queue-version' for queue 'q' in vhost '/': "
         "{value_negative,-1}`", "rabbit_amqqueue.erl:929"),
        ("Neither durable nor exclusive", "allowed", "rabbit_amqqueue.erl:239"),
        ("declare-ok", "counts ready messages and consumers", "rabbit_channel.erl:824"),
        ("Delete if-unused", "406 `queue 'q' in vhost '/' in use`", "rabbit_amqqueue.erl:1747"),
        ("Delete if-empty", "406 `queue 'q' in vhost '/' not empty`", "rabbit_amqqueue.erl:1749"),
        ("Delete", "delete-ok counts the messages; bindings are deleted too",
         "rabbit_channel.erl:1570"),
        ("Delete of a missing object", "delete-ok of 0 messages", "rabbit_amqqueue.erl:1735"),
        ("Purge", "purge-ok counts ready messages; unacknowledged ones stay",
         "rabbit_channel.erl:1600"),
        ("Auto-delete", "deleted with its last consumer, never before it had one",
         "rabbit_amqqueue_process.erl:955"),
        ("no-wait", "carried out in order, without a reply", "rabbit_channel.erl:828"),
        ("Limit of queues", "406 `cannot declare queue 'q': queue limit in cluster (N) is reached`",
         "rabbit_queue_type.erl:939"),
        ("Limit of a vhost's queues", "406 `cannot declare queue 'q': queue limit in vhost 'v' (N) "
         "is reached`; what exists can be declared again", "rabbit_queue_type.erl:939"),
    ),
    "Publish, return, confirm": section(
        ("immediate", "540 `immediate=true`", "rabbit_channel.erl:1159"),
        ("Missing exchange", "404, after the content was read; nothing is confirmed",
         "rabbit_channel.erl:1182"),
        ("Line ends in names", "CR and LF are dropped from the name of the exchange, and from a "
         "key "
         "that names a queue; other keys keep them", "rabbit_channel.erl:1069"),
        ("Internal exchange", "403 `cannot publish to internal exchange 'x' in vhost '/'`",
         "rabbit_channel.erl:923"),
        ("Larger than max_message_size", "406 `message size N is larger than configured max size "
         "M`, after the content was read", "rabbit_channel.erl:980"),
        ("Bad expiration", "406 `invalid expiration 'soon': …`", "rabbit_channel.erl:919"),
        ("user-id of another", "406 `user_id property set to 'other' but authenticated user was "
         "'guest'`", "rabbit_access_control.erl:421"),
        ("Unroutable and mandatory", "basic.return 312 `NO_ROUTE`, then the ack",
         "rabbit_channel.erl:2171"),
        ("Unroutable", "acked and dropped", "rabbit_channel.erl:2187"),
        ("Confirm", "every publish of the channel, in order per queue, once all its queues have it",
         "rabbit_channel.erl:2201"),
        ("Confirm tags", "start at 1 with confirm.select, per channel",
         "rabbit_channel.erl:1643"),
        ("Queue deleted meanwhile", "its pending messages count as confirmed",
         "rabbit_channel.erl:2829"),
        ("Order", "the order of a channel's publishes is kept", "rabbit_channel.erl:2103"),
        ("Content", "bodies, properties and headers of every type arrive unchanged",
         "rabbit_channel.erl:2103"),
        ("Mandatory, with an alternate exchange", "returned if that routes nowhere either",
         "rabbit_channel.erl:2171"),
        ("CC and BCC", "are routing keys too; BCC is removed", "mc_amqpl.erl:826"),
        ("Keys in CC and BCC", "at most 1,000 different ones of at most 255 bytes, else 406 "
         "`invalid message: …`", "mc_amqpl.erl:826"),
        ("CC that is no array", "406 `invalid message: …`", "rabbit_channel.erl:1206"),
        ("After a restart", "persistent messages in durable queues survive, others do not",
         "rabbit_variable_queue.erl:405"),
    ),
    "Consume, get, ack": section(
        ("Tag used twice", "530 `attempt to reuse consumer tag 'x'`", "rabbit_channel.erl:1347"),
        ("Exclusive consumer", "403 `queue 'q' in vhost '/' in exclusive use`",
         "rabbit_classic_queue.erl:321"),
        ("Tag by the server", "`amq.ctag-…`", "rabbit_channel.erl:1311"),
        ("Missing queue", "404 `no queue 'q' in vhost '/'`", "rabbit_amqqueue.erl:659"),
        ("Cancel of an unknown tag", "cancel-ok", "rabbit_channel.erl:1406"),
        ("consume-ok", "comes before the first delivery", "rabbit_channel.erl:1311"),
        ("cancel-ok", "no delivery after it; earlier deliveries stay unacknowledged",
         "rabbit_channel.erl:1408"),
        ("Cancel by the server", "basic.cancel with no-wait when the queue is deleted, only for a "
         "client with the capability", "rabbit_channel.erl:1780"),
        ("no-local", "ignored", "rabbit_channel.erl:1369"),
        ("Dispatch", "consumers take turns; a consumer without room is skipped",
         "rabbit_queue_consumers.erl:247"),
        ("basic.get", "message-count is the number of remaining messages",
         "rabbit_channel.erl:1249"),
        ("basic.get of nothing", "get-empty, cluster-id empty", "rabbit_channel.erl:1277"),
        ("Unknown delivery tag", "406 `unknown delivery tag 7`, also for one that was acknowledged "
         "before or sent with no-ack", "rabbit_channel.erl:1998"),
        ("multiple", "all up to the tag, over all queues of the channel",
         "rabbit_channel.erl:1975"),
        ("multiple, tag 0", "all outstanding ones, also if there are none; a single tag 0 is 406",
         "rabbit_channel.erl:1975"),
        ("Tags", "counted per channel, over its consumers and gets",
         "rabbit_channel.erl:1998"),
        ("reject, nack without requeue", "drops the message", "rabbit_channel.erl:1226"),
        ("Limit of consumers", "530 `reached maximum (N) of consumers per channel`",
         "rabbit_channel.erl:1305"),
        ("x-priority", "the highest is served first, lower ones if it has no room, equal ones "
         "in turn", "rabbit_queue_consumers.erl:247"),
        ("x-priority that is no integer", "406 naming the argument", "rabbit_amqqueue.erl:974"),
    ),
    "Qos": section(
        ("prefetch_size", "540 `prefetch_size!=0 (10)`", "rabbit_channel.erl:1413"),
        ("global=false", "a limit for each later consumer; existing consumers keep theirs",
         "rabbit_channel.erl:1431"),
        ("prefetch_count 0", "no limit", "rabbit_channel.erl:1431"),
        ("no-ack consumers and basic.get", "are not limited", "rabbit_channel.erl:1431"),
        ("global=true", "a limit that all consumers of the channel share, old and new",
         "rabbit_channel.erl:1452"),
        ("global=true and basic.get", "a get needs no room, but its delivery counts",
         "rabbit_channel.erl:1452"),
        ("global=true and no-ack", "does not count", "rabbit_channel.erl:1452"),
        ("global=true, lowered or lifted", "counts what is outstanding; 0 lifts it",
         "rabbit_channel.erl:1452"),
        ("Both limits", "apply together", "rabbit_channel.erl:1452"),
        ("qos-ok", "the limit holds", "rabbit_channel.erl:1452"),
    ),
    "Requeue": section(
        ("Position", "a requeued message returns to its old position",
         "rabbit_variable_queue.erl:642"),
        ("redelivered", "set on every message that was delivered before, even if no client saw it",
         "rabbit_variable_queue.erl:1835"),
        ("recover(true)", "requeues all unacknowledged messages; they may go to other consumers",
         "rabbit_channel.erl:1499"),
        ("recover(false)", "540 `requeue=false`", "rabbit_channel.erl:1497"),
        ("Channel or connection ends", "all unacknowledged messages are requeued, in order, "
         "before close-ok",
         "rabbit_channel.erl:2043"),
    ),
    "Single active consumer": section(
        ("Several consumers", "the first one is served, the others wait in the order in which they "
         "came; all count as consumers",
         "rabbit_amqqueue_process.erl:1347"),
        ("The active one is cancelled", "the next one takes its place; what the cancelled one "
         "holds stays with its channel",
         "rabbit_amqqueue_process.erl:1478"),
        ("Its channel or connection ends", "what it held is requeued and goes to the next one",
         "rabbit_amqqueue_process.erl:957"),
        ("A waiting one is cancelled", "it never becomes active", "rabbit_amqqueue_process.erl:1478"),
        ("x-priority", "the highest of those that wait comes first; the active one stays active",
         "rabbit_queue_consumers.erl:548"),
        ("Prefetch", "an active consumer without room stops the queue",
         "rabbit_queue_consumers.erl:250"),
        ("Exclusive consumer", "403 `... in exclusive use`", "rabbit_amqqueue_process.erl:1347"),
        ("basic.get", "takes messages although a consumer is active", "rabbit_amqqueue_process.erl:1328"),
        ("The queue is deleted", "all consumers get basic.cancel", "rabbit_channel.erl:1717"),
        ("Type of the argument", "406 unless it is a boolean", "rabbit_amqqueue.erl:1044"),
        ("Declared again", "406 unless it is the same", "rabbit_amqqueue.erl:871"),
        ("The argument is false", "as without it", "rabbit_amqqueue_process.erl:169"),
    ),
    "Consumer timeout": section(
        ("consumer_timeout", "406 `delivery acknowledgement on channel 1 timed out. Timeout value "
         "used: 1000 ms. ...` closes the channel; its deliveries are requeued. Ringtail closes it "
         "at most 66 ms later, RabbitMQ at most a minute later",
         "rabbit_channel.erl:2767"),
        ("Off unless set", "Ringtail's default is no limit; RabbitMQ's is 30 minutes",
         "rabbit.schema:1533"),
        ("Acknowledged in time", "each delivery has the whole time; those that need no "
         "acknowledgement do not count",
         "rabbit_channel.erl:2767"),
        ("The oldest delivery", "later ones do not prolong its time", "rabbit_channel.erl:2767"),
        ("basic.get", "what it took counts too", "rabbit_channel.erl:2767"),
        ("Acknowledged in a transaction", "counts as acknowledged before the commit",
         "rabbit_channel.erl:1615"),
        ("x-consumer-timeout of a queue", "takes the place of `consumer_timeout`. RabbitMQ 4.3 has "
         "it for quorum queues",
         "rabbit_amqqueue.erl:964"),
        ("x-consumer-timeout of a consumer", "comes before both", "rabbit_queue_type.erl:546"),
        ("Type of the argument", "406 unless it is an integer above 0", "rabbit_amqqueue.erl:975"),
    ),
    "Transactions": section(
        ("Publish", "routed at once, visible in all queues at commit", "rabbit_channel.erl:1615"),
        ("Acknowledge", "takes effect at commit, also for prefetch", "rabbit_channel.erl:1615"),
        ("Rollback", "drops publishes and acknowledgements; deliveries are outstanding again",
         "rabbit_channel.erl:1633"),
        ("Channel or connection ends", "uncommitted publishes and acknowledgements are dropped",
         "rabbit_channel.erl:1633"),
        ("Unroutable and mandatory", "returned, in order, before commit-ok",
         "rabbit_channel.erl:2171"),
        ("Missing exchange, unknown tag", "refused at once, not at commit",
         "rabbit_channel.erl:1182"),
        ("Without tx.select", "commit and rollback: 406 `channel is not transactional`",
         "rabbit_channel.erl:1613"),
        ("tx.select again", "keeps the transaction", "rabbit_channel.erl:1609"),
        ("confirm.select after tx.select", "406 `cannot switch from tx to confirm mode`",
         "rabbit_channel.erl:1641"),
        ("tx.select after confirm.select", "406 `cannot switch from confirm to tx mode`",
         "rabbit_channel.erl:1604"),
    ),
    "Direct reply-to": section(
        ("Request and reply", "delivered on the requesting channel, which has its own reply name",
         "rabbit_channel.erl:1082"),
        ("Consumer that would acknowledge", "406 `reply consumer cannot acknowledge`",
         "rabbit_channel.erl:1339"),
        ("Second consumer", "406 `reply consumer already set`", "rabbit_channel.erl:1339"),
        ("Request without a consumer", "406 `fast reply consumer does not exist`",
         "rabbit_channel.erl:1082"),
        ("Reply to a consumer that is gone", "returned if mandatory, else dropped",
         "rabbit_channel.erl:2171"),
        ("Declared", "declare-ok while it exists, 404 afterwards", "rabbit_channel.erl:2449"),
        ("Bound", "refused", "rabbit_channel.erl:1041"),
        ("Reply, mandatory", "the consumer counts as a queue", "rabbit_channel.erl:2103"),
    ),
    "Permissions": section(
        ("Rights of each method", "declare and delete: configure; publish: write; bind and unbind: "
         "write to the destination and read from the source; consume, get, purge: read; a declare "
         "with an alternate or dead letter exchange: read of the object and write to that "
         "exchange; the default exchange is asked for as `amq.default`. 403 `write access to "
         "exchange 'x' in vhost '/' refused for user 'u'`, even if there is no such object",
         "rabbit_channel.erl:862"),
        ("Passive declare", "needs no right", "rabbit_channel.erl:2480"),
        ("Server-named queue", "the name that was made is looked at", "rabbit_channel.erl:2403"),
        ("Vhost", "opens for who has any permission in it; else 530 `access to vhost 'v' refused "
         "for user 'u'`", "rabbit_access_control.erl:331"),
        ("Topic", "403 `write access to topic 'k' in exchange 'x' in vhost '/' refused for "
         "user 'u'`; `{username}` and `{vhost}` in a pattern stand for names",
         "rabbit_access_control.erl:375"),
    ),
    "Policies": section(
        ("In force", "the policy that matches with the highest priority; of its limits, those of an "
         "operator policy and those of arguments the lowest", "rabbit_policy.erl:87"),
        ("Alternate exchanges", "of the policy that matches with the highest priority, unless an "
         "argument names one; its user needs no right to it", "rabbit_exchange.erl:434"),
        ("Defaults of new vhosts", "the first `default_limits.vhosts.…` and all "
         "`default_policies.operator.…` whose pattern matches the vhost's name",
         "rabbit_db_vhost_defaults.erl:68"),
    ),
    "Users": section(
        ("Password hashes", "salted SHA-256, SHA-512 and MD5", "rabbit_password.erl:42"),
        ("No password", "no password logs in", "rabbit_auth_backend_internal.erl:100"),
        ("Passwords that are allowed", "`credential_validator.…`: a start is refused if a password "
         "in clear is too short or does not match; hashes are taken",
         "rabbit_credential_validation.erl:28"),
        ("Users of new vhosts", "`default_users.…`: those whose pattern matches the vhost's name "
         "exist and may use it", "rabbit_db_vhost_defaults.erl, add_user"),
    ),
    "Definitions": section(
        ("First start", "a broker that loads definitions makes no user of its own",
         "rabbit_definitions.erl"),
        ("Limits", "of users and, as parameters, of vhosts; new queues of a file have to keep the "
         "limits that were there before it", "rabbit_definitions.erl:1004"),
        ("Objects", "users, vhosts, permissions, policies, exchanges, queues and bindings are "
         "there when the broker answers", "rabbit_definitions.erl"),
        ("Passwords in clear", "`password` is taken in place of `password_hash`, never both",
         "rabbit_auth_backend_internal.erl, put_user"),
        ("Hashes without an algorithm", "are MD5 in files of versions before 3.6, else SHA-256",
         "rabbit_auth_backend_internal.erl, hashing_algorithm"),
        ("Global parameters", "are kept; cluster_name is what clients find in server-properties",
         "rabbit_reader.erl, server_properties"),
        ("Names of the broker", "queues and exchanges whose names begin with `amq.` are left out, "
         "and what is bound to them", "rabbit_definitions.erl, add_queue_int"),
        ("Form of the file", "comments and a comma behind the last item are allowed, as before "
         "RabbitMQ 3.11; unknown sections are ignored", "rabbit_json.erl"),
        ("Settings of vhosts", "description, tags and default_queue_type stand in the vhost or in "
         "its metadata", "rabbit_definitions.erl, add_vhost"),
        ("Components that are not built", "a start is refused, and names the component: shovel, "
         "federation, any other", "rabbit_runtime_parameters.erl, lookup_component"),
    ),
    "Dead letters": section(
        ("Rejected messages", "basic.reject and basic.nack without requeue publish the message to "
         "the exchange in x-dead-letter-exchange, in order; it leaves its queue when all queues "
         "that it goes to have it, on disk if it is persistent",
         "rabbit_amqqueue_process.erl, dead_letter_rejected_msgs"),
        ("x-death", "a table for each queue and reason: count, reason, queue, time, exchange, "
         "routing-keys, original-expiration; x-first-death-… of the first death, x-last-death-… "
         "of the last one; the expiration is taken out", "mc_amqpl.erl:582"),
        ("Order of x-death", "the newest event first; at most 64 events and 32 KiB, older ones are "
         "dropped", "mc.erl:389"),
        ("Routing keys", "x-dead-letter-routing-key replaces all keys and takes CC out; without it "
         "the keys of the publish count, those in CC too, those in BCC do not",
         "rabbit_dead_letter.erl:41"),
        ("Exchanges", "bindings between exchanges and alternate exchanges apply, internal exchanges "
         "are allowed", "rabbit_dead_letter.erl:41"),
        ("Exchange that does not exist", "the message is dropped when it dies",
         "rabbit_amqqueue_process.erl, with_dlx"),
        ("Expired messages", "go there when they expire, with original-expiration if they had one "
         "of their own", "rabbit_amqqueue_process.erl:889"),
        ("Messages beyond a limit", "go there with the reason maxlen; refused ones only with "
         "`reject-publish-dlx`", "rabbit_amqqueue_process.erl:735"),
        ("Circles", "a message that comes to a queue again is dropped if nobody has rejected it on "
         "the way", "rabbit_dead_letter.erl:55"),
        ("Deleted and purged queues", "make no dead letters; those of before arrive",
         "rabbit_amqqueue_process.erl, terminate_shutdown"),
        ("Target that is the queue itself", "the rejected message comes back",
         "rabbit_dead_letter.erl:55"),
        ("x-death of a publisher", "is taken over; what is no event is dropped",
         "rabbit_dead_letter.erl, update_x_death_header"),
        ("Direct reply-to", "a dead letter may be a reply", "rabbit_exchange.erl, route"),
        ("Arguments", "406 for a wrong type, for a routing key without an exchange, and for "
         "x-dead-letter-strategy on a classic queue; both are compared when a queue is declared "
         "again; names of more than 255 bytes are refused", "rabbit_amqqueue.erl:1112"),
        ("Prefetch", "a rejected message counts no more", "rabbit_channel.erl:1998"),
        ("Transactions", "a reject takes effect with its commit", "rabbit_channel.erl:2285"),
        ("Restart", "dead letters and the arguments survive it", "rabbit_amqqueue.erl:659"),
    ),
    "Limits and lifetimes": section(
        ("Arguments", "406 `invalid arg 'x-message-ttl' for queue 'q' in vhost '/': "
         "{value_negative,-1}`; equal when declared again", "rabbit_amqqueue.erl:929"),
        ("Message TTL", "`x-message-ttl` or `expiration`, the lower one; messages expire at the "
         "head of their queue", "rabbit_amqqueue_process.erl:889"),
        ("Message TTL of 0", "a consumer that waits gets the message",
         "rabbit_amqqueue_process.erl:654"),
        ("Requeued and expired", "a message keeps its time", "rabbit_amqqueue_process.erl:889"),
        ("After a restart", "messages keep their times", "rabbit_variable_queue.erl:405"),
        ("x-expires", "a queue without consumers goes, unless it is declared or got from",
         "rabbit_amqqueue_process.erl:361"),
        ("drop-head", "beyond `x-max-length` or `x-max-length-bytes` the first ready messages go",
         "rabbit_amqqueue_process.erl:735"),
        ("reject-publish", "basic.nack of what would exceed a limit; requeued messages are taken",
         "rabbit_amqqueue_process.erl:623"),
        ("A length of 0", "drop-head serves a consumer that waits, reject-publish refuses",
         "rabbit_amqqueue_process.erl:623"),
    ),
    "Priorities": section(
        ("Order", "of the ready messages the first one of the highest priority leaves next; no "
         "priority is 0", "rabbit_priority_queue.erl, fetch"),
        ("A priority above the highest", "counts as the highest",
         "rabbit_priority_queue.erl, priority_bq"),
        ("Requeued messages", "return to their place in their priority",
         "rabbit_priority_queue.erl, requeue"),
        ("Limits", "drop-head drops the first message of the highest priority",
         "rabbit_priority_queue.erl, drop"),
        ("Expired messages", "expire at the head of the whole queue: behind a higher priority "
         "they wait", "rabbit_priority_queue.erl, fetchwhile"),
        ("Dead letters", "keep the priority", "rabbit_dead_letter.erl"),
        ("Purge", "takes all priorities", "rabbit_priority_queue.erl, purge"),
        ("Consumers", "with x-priority, prefetch, basic.qos global and "
         "x-single-active-consumer", "rabbit_queue_consumers.erl"),
        ("Arguments", "0 to 255, else 406 `{max_value_exceeded,256}` or `{value_negative,-1}`; "
         "equal when declared again", "rabbit_amqqueue.erl, check_max_priority_arg"),
        ("No x-max-priority", "messages leave in the order of arrival, whatever their priority",
         "rabbit_priority_queue.erl, init"),
        ("After a restart", "persistent messages leave in the same order",
         "rabbit_priority_queue.erl, init"),
    ),
    "Not built yet": section(
        ("Arguments of queues", "406 naming the argument: those of quorum queues",
         "rabbit_amqqueue.erl:951"),
        ("Quorum queues and streams", "406 naming x-queue-type", "rabbit_amqqueue.erl:1193"),
        ("AMQP 1.0", "its header is answered with `AMQP 0 0 9 1`", "rabbit_reader.erl:1165"),
    ),
}
