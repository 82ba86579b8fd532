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
        ("Reply text", "`NAME - explanation`; more than 255 octets are cut to 252 and three dots",
         "rabbit_binary_generator.erl:217"),
        ("Soft code", "403, 404, 405, 406: channel.close; all else of the connection goes on",
         "rabbit_binary_generator.erl:197"),
        ("Hard code", "501 to 505, 530, 540: connection.close on channel 0, then the socket ends",
         "rabbit_binary_generator.erl:197"),
        ("Soft code on channel 0", "connection.close", "rabbit_binary_generator.erl:197"),
        ("Class and method id", "those of the method that failed; 0 and 0 if there is none",
         "rabbit_binary_generator.erl:192"),
        ("Behind channel.close", "everything on the channel is ignored but close and close-ok",
         "rabbit_channel.erl:1128"),
        ("Behind connection.close", "everything is ignored but close and close-ok",
         "rabbit_reader.erl:1417"),
        ("Closes of both sides cross", "both are answered", "rabbit_channel.erl:1123"),
        ("In front of the error", "what was sent before is done", "rabbit_channel.erl:799"),
        ("Unacknowledged messages", "are requeued when an error closes their channel",
         "rabbit_channel.erl:799"),
        ("Queue whose messages cannot be read", "404 `queue 'q' in vhost '/' has crashed and failed "
         "to restart` for basic.get and basic.consume; consumers are cancelled, publishes nacked, "
         "tx.commit is answered with 406 `partial tx completion`; a purge or a deletion cures it",
         "rabbit_amqqueue.erl, priv_absent"),
        ("close-ok that never comes", "exclusive queues go at once all the same",
         "rabbit_reader.erl:755"),
    ),
    "Handshake": section(
        ("Protocol header", "`AMQP 0 0 9 1` and `AMQP 1 1 0 9`, whole or in pieces",
         "rabbit_reader.erl:1165"),
        ("Another protocol header", "answered with `AMQP 0 0 9 1`; the socket ends",
         "rabbit_reader.erl:1165"),
        ("connection.start", "0-9, `en_US`, mechanisms with `PLAIN AMQPLAIN`",
         "rabbit_reader.erl:1201"),
        ("server-properties", "product and capabilities, all true", "rabbit_reader.erl:210"),
        ("PLAIN and AMQPLAIN", "log in", "rabbit_reader.erl:1509"),
        ("First user and vhost", "made at the first start; what the configuration says of them "
         "later comes too late", "rabbit.erl:1176"),
        ("Refused login", "403 `Login was refused using authentication mechanism PLAIN. For "
         "details see the broker logfile.`, to a client with authentication_failure_close",
         "rabbit_reader.erl:1592"),
        ("Refused login, older client", "3 s of silence, then the socket ends",
         "rabbit_reader.erl:906"),
        ("Unknown mechanism", "503 `unknown authentication mechanism 'X'`",
         "rabbit_reader.erl:1509"),
        ("Malformed response", "502", "rabbit_auth_mechanism_plain.erl:42"),
        ("connection.tune", "channel_max 2047, frame_max 131072, heartbeat 60", "Makefile:22"),
        ("tune-ok", "lower values of the client hold", "rabbit_reader.erl:1290"),
        ("tune-ok out of bounds", "530 `negotiated frame_max = 0 (no limit) is higher than the "
         "maximum allowed value (131072)`, `… is lower than the minimum allowed value (8192)`",
         "rabbit_reader.erl:1474"),
        ("Heartbeats sent", "every half of the interval while nothing else is",
         "rabbit_heartbeat.erl:57"),
        ("Heartbeats expected", "a client silent for two to three intervals is dropped without a "
         "close; any traffic counts", "rabbit_heartbeat.erl:66"),
        ("Heartbeat 0", "none are sent, none expected", "rabbit_heartbeat.erl:57"),
        ("Missing vhost", "530 `vhost nosuch not found`", "rabbit_reader.erl:1457"),
        ("Handshake not finished", "the socket is closed after 10 s", "rabbit_reader.erl:647"),
        ("Pipelined handshake", "start-ok, tune-ok, open and channel.open may come in one write",
         "rabbit_reader.erl:1290"),
        ("Method in the wrong state", "504 `unexpected method in connection state running`",
         "rabbit_reader.erl:1419"),
        ("Close by the client", "exclusive queues are gone before close-ok comes",
         "rabbit_reader.erl:755"),
        ("Shutdown", "320 `broker forced connection closure with reason 'shutdown'`",
         "rabbit_reader.erl:622"),
        ("Channel before connection.open", "505 `type 1, all octets = <<0,20,0,10,0>>`",
         "rabbit_reader.erl:1090"),
        ("Close during the handshake", "close-ok", "rabbit_reader.erl:1417"),
        ("No limit", "channel_max and frame_max may be 0", "rabbit_reader.erl:1474"),
        ("Limit of connections", "530 `connection refused: node connection limit (N) is reached`",
         "rabbit_reader.erl:1430"),
        ("connection.blocked", "comes behind the first publish while the disk or the memory is "
         "short, with `low on disk` or `low on memory`; connection.unblocked follows",
         "rabbit_reader.erl:1751"),
        ("connection.blocked, more than one reason", "`low on disk & memory`; who is blocked hears "
         "nothing of another reason", "rabbit_reader.erl:1832"),
        ("connection.update-secret", "update-secret-ok; what was open goes on",
         "rabbit_reader.erl:1385"),
    ),
    "Framing": section(
        ("frame_max", "holds both ways, for each connection its own", "rabbit_reader.erl:1138"),
        ("Frame too large", "501 `type 3, all octets = <<>>: {frame_too_large,9000,8184}`; a "
         "payload of up to frame_max octets passes", "rabbit_reader.erl:1138"),
        ("Frame too large before tuning", "8192 octets is the limit", "rabbit_reader.erl:303"),
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
        ("Body in pieces", "of any size, empty ones and heartbeats among them",
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
        ("Garbage", "costs its connection alone", "rabbit_reader.erl:1138"),
        ("Table that cannot be read", "502 `unknown field type 90`", "rabbit_binary_parser.erl:37"),
    ),
    "Channels": section(
        ("Second open", "504 `second 'channel.open' seen`", "rabbit_channel.erl:1114"),
        ("First method is not open", "504 `expected 'channel.open'`", "rabbit_channel.erl:1117"),
        ("Number above channel_max", "530 `number of channels opened (2) has reached the "
         "negotiated channel_max (2)`", "rabbit_reader.erl:976"),
        ("Method on a closed channel", "504 `expected 'channel.open'`", "rabbit_channel.erl:1117"),
        ("close-ok that answers nothing", "ignored", "rabbit_channel.erl:1117"),
        ("Numbers", "can be used again after close-ok", "rabbit_reader.erl:1119"),
        ("channel.flow(true)", "flow-ok(true)", "rabbit_channel.erl:1648"),
        ("channel.flow(false)", "540 `active=false`", "rabbit_channel.erl:1651"),
        ("Method of the server", "503 `unimplemented method`", "rabbit_channel.erl:1653"),
        ("Limit of channels", "530 `number of channels opened on node 'n' has reached the maximum "
         "allowed limit of N`", "rabbit_reader.erl:1017"),
    ),
    "Exchanges": section(
        ("Default set", "the default exchange, amq.direct, amq.fanout, amq.topic, amq.headers, "
         "amq.match, amq.rabbitmq.trace (internal); durable", "rabbit_vhost.erl:254"),
        ("Default exchange", "routes by queue name", "rabbit_exchange.erl:399"),
        ("Unknown type", "406 `unknown exchange type 'x'`", "rabbit_exchange.erl:190"),
        ("Reserved name", "403 `exchange name 'amq.x' contains reserved prefix 'amq.*'` unless it "
         "is there", "rabbit_channel.erl:1065"),
        ("After a restart", "durable ones are there with their arguments; so is a binding if both "
         "its ends are durable", "rabbit_binding.erl:119"),
        ("Declared again", "type, durable, auto_delete and internal count, other arguments do not",
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
        ("Delete of what is missing", "delete-ok", "rabbit_channel.erl:2589"),
        ("Delete", "takes the bindings along", "rabbit_channel.erl:2589"),
        ("Line ends in names", "CR and LF are dropped", "rabbit_channel.erl:1069"),
        ("Bind to what is missing", "404 for the queue or the exchange", "rabbit_binding.erl:103"),
        ("Unbind of what is missing", "unbind-ok", "rabbit_binding.erl:143"),
        ("Exchange to exchange", "routes through internal ones; a cycle ends",
         "rabbit_exchange.erl:405"),
        ("Several bindings match", "a queue gets the message once", "rabbit_exchange.erl:405"),
        ("Bad x-match", "406 `Invalid x-match field value …`",
         "rabbit_exchange_type_headers.erl:90"),
        ("Auto-delete", "goes with its last binding as a source, never before it had one",
         "rabbit_db_binding.erl:348"),
        ("Limit of exchanges", "406 `cannot declare exchange 'x' in vhost '/': exchange limit of "
         "N is reached`", "rabbit_exchange.erl:165"),
        ("Alternate exchange", "takes what no binding takes; chains are followed, cycles end",
         "rabbit_exchange.erl:434"),
        ("Alternate exchange, missing", "ignored until it is there", "rabbit_exchange.erl:434"),
        ("Alternate exchange, declared otherwise", "406 `inequivalent arg …`",
         "rabbit_exchange.erl:231"),
        ("Alternate exchange, no name", "406 `invalid type 'signedint' for arg "
         "'alternate-exchange' in exchange 'x' in vhost '/'`", "rabbit_channel.erl:2642"),
    ),
    "Queues": section(
        ("Empty name", "the server names it `amq.gen-` and 22 characters",
         "rabbit_channel.erl:2483"),
        ("Empty name later", "the queue the channel declared last", "rabbit_channel.erl:995"),
        ("Empty name, none declared", "404 `no previously declared queue`",
         "rabbit_channel.erl:995"),
        ("Reserved name", "403 `queue name 'amq.x' contains reserved prefix 'amq.*'`, even if the "
         "queue is there", "rabbit_channel.erl:1065"),
        ("Reserved name, passive", "declare-ok, or 404", "rabbit_channel.erl:2558"),
        ("Longest name", "255 octets", "rabbit_channel.erl:2476"),
        ("Line ends in names", "CR and LF are dropped", "rabbit_channel.erl:1069"),
        ("Passive, missing", "404 `no queue 'q' in vhost '/'`", "rabbit_amqqueue.erl:659"),
        ("Exclusive, another connection", "405 `cannot obtain exclusive access to locked queue 'q' "
         "in vhost '/'. …` for declare, bind, consume, get, purge and delete",
         "rabbit_amqqueue.erl:826"),
        ("Exclusive, published to by others", "routed", "rabbit_amqqueue.erl:826"),
        ("Exclusive, declared otherwise by its owner", "405", "rabbit_amqqueue.erl:826"),
        ("Exclusive and durable", "goes with its connection like any exclusive queue",
         "rabbit_channel.erl:2477"),
        ("After a restart", "durable ones that are not exclusive are there with their arguments, "
         "and a declare-ok means so whatever ends the process", "rabbit_amqqueue.erl:145"),
        ("Declared otherwise", "406 `inequivalent arg 'durable' for queue 'q' in vhost '/': "
         "received 'true' but current is 'false'`; a missing argument is `none`, one "
         "beside it `the value '10' of type 'signedint'`", "rabbit_misc.erl:331"),
        ("What is compared", "durable, auto_delete, exclusive, known arguments; no x-queue-type is "
         "classic, integers of any width are equal, unknown arguments are ignored",
         "rabbit_amqqueue.erl:871"),
        ("Invalid argument", "406 `invalid arg 'x-queue-version' for queue 'q' in vhost '/': "
         "{value_negative,-1}`", "rabbit_amqqueue.erl:929"),
        ("Neither durable nor exclusive", "allowed", "rabbit_amqqueue.erl:239"),
        ("declare-ok", "counts ready messages and consumers", "rabbit_channel.erl:824"),
        ("Delete if-unused", "406 `queue 'q' in vhost '/' in use`", "rabbit_amqqueue.erl:1747"),
        ("Delete if-empty", "406 `queue 'q' in vhost '/' not empty`", "rabbit_amqqueue.erl:1749"),
        ("Delete", "delete-ok counts the messages; bindings go along", "rabbit_channel.erl:1570"),
        ("Delete of what is missing", "delete-ok of 0 messages", "rabbit_amqqueue.erl:1735"),
        ("Purge", "purge-ok counts ready messages; unacknowledged ones stay",
         "rabbit_channel.erl:1600"),
        ("Auto-delete", "goes with its last consumer, never before it had one",
         "rabbit_amqqueue_process.erl:955"),
        ("no-wait", "is done in order, without an answer", "rabbit_channel.erl:828"),
        ("Limit of queues", "406 `cannot declare queue 'q': queue limit in cluster (N) is reached`",
         "rabbit_queue_type.erl:939"),
    ),
    "Publish, return, confirm": section(
        ("immediate", "540 `immediate=true`", "rabbit_channel.erl:1159"),
        ("Missing exchange", "404, after the content was read; nothing is confirmed",
         "rabbit_channel.erl:1182"),
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
        ("Confirm", "every publish of the channel, in order for one queue, once all queues have it",
         "rabbit_channel.erl:2201"),
        ("Confirm tags", "start at 1 with confirm.select, each channel its own",
         "rabbit_channel.erl:1643"),
        ("Queue deleted meanwhile", "its pending messages count as confirmed",
         "rabbit_channel.erl:2829"),
        ("Order", "of a channel's publishes is kept", "rabbit_channel.erl:2103"),
        ("Content", "bodies, properties and headers of every type arrive as they were",
         "rabbit_channel.erl:2103"),
        ("Mandatory, with an alternate exchange", "returned if that routes nowhere either",
         "rabbit_channel.erl:2171"),
        ("CC and BCC", "are routing keys too; BCC is taken out", "mc_amqpl.erl:826"),
        ("CC that is no array", "406 `invalid message: …`", "rabbit_channel.erl:1206"),
        ("After a restart", "persistent messages in durable queues are there, others are not",
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
        ("cancel-ok", "no delivery after it; what was delivered stays unacknowledged",
         "rabbit_channel.erl:1408"),
        ("Cancel by the server", "basic.cancel with no-wait when the queue is deleted, with the "
         "client's capability alone", "rabbit_channel.erl:1780"),
        ("no-local", "ignored", "rabbit_channel.erl:1369"),
        ("Dispatch", "consumers take turns; who cannot take more is passed over",
         "rabbit_queue_consumers.erl:247"),
        ("basic.get", "message-count is what is left", "rabbit_channel.erl:1249"),
        ("basic.get of nothing", "get-empty, cluster-id empty", "rabbit_channel.erl:1277"),
        ("Unknown delivery tag", "406 `unknown delivery tag 7`, for one acknowledged before or "
         "sent with no-ack as well", "rabbit_channel.erl:1998"),
        ("multiple", "all up to the tag, over all queues of the channel",
         "rabbit_channel.erl:1975"),
        ("multiple, tag 0", "all there are, be it none; a single tag 0 is 406",
         "rabbit_channel.erl:1975"),
        ("Tags", "are the channel's own, counted over its consumers and gets",
         "rabbit_channel.erl:1998"),
        ("reject, nack without requeue", "drops the message", "rabbit_channel.erl:1226"),
        ("Limit of consumers", "530 `reached maximum (N) of consumers per channel`",
         "rabbit_channel.erl:1305"),
        ("x-priority", "the highest is served first, lower ones when it has no room, equals in "
         "turn", "rabbit_queue_consumers.erl:247"),
        ("x-priority that is no integer", "406 naming the argument", "rabbit_amqqueue.erl:974"),
    ),
    "Qos": section(
        ("prefetch_size", "540 `prefetch_size!=0 (10)`", "rabbit_channel.erl:1413"),
        ("global=false", "a limit for each consumer that comes; those there keep theirs",
         "rabbit_channel.erl:1431"),
        ("prefetch_count 0", "no limit", "rabbit_channel.erl:1431"),
        ("no-ack consumers and basic.get", "are not limited", "rabbit_channel.erl:1431"),
        ("global=true", "a limit that all consumers of the channel share, old and new",
         "rabbit_channel.erl:1452"),
        ("global=true and basic.get", "is never held back, and counts", "rabbit_channel.erl:1452"),
        ("global=true and no-ack", "does not count", "rabbit_channel.erl:1452"),
        ("global=true, lowered or lifted", "counts what is outstanding; 0 lifts it",
         "rabbit_channel.erl:1452"),
        ("Both limits", "hold together", "rabbit_channel.erl:1452"),
        ("qos-ok", "the limit holds", "rabbit_channel.erl:1452"),
    ),
    "Requeue": section(
        ("Position", "a requeued message is back where it was", "rabbit_variable_queue.erl:642"),
        ("redelivered", "set on all that was delivered before, though nobody may have seen it",
         "rabbit_variable_queue.erl:1835"),
        ("recover(true)", "requeues all unacknowledged; they may go to others",
         "rabbit_channel.erl:1499"),
        ("recover(false)", "540 `requeue=false`", "rabbit_channel.erl:1497"),
        ("Channel or connection ends", "all unacknowledged are back, in order, before close-ok",
         "rabbit_channel.erl:2043"),
    ),
    "Transactions": section(
        ("Publish", "routed at once, seen at commit in all queues", "rabbit_channel.erl:1615"),
        ("Acknowledge", "counts at commit, for prefetch as well", "rabbit_channel.erl:1615"),
        ("Rollback", "forgets publishes and acknowledgements; deliveries are outstanding as before",
         "rabbit_channel.erl:1633"),
        ("Channel or connection ends", "what is not committed is forgotten",
         "rabbit_channel.erl:1633"),
        ("Unroutable and mandatory", "comes back, in order, before commit-ok",
         "rabbit_channel.erl:2171"),
        ("Missing exchange, unknown tag", "refused at once, not at commit",
         "rabbit_channel.erl:1182"),
        ("Without tx.select", "commit and rollback: 406 `channel is not transactional`",
         "rabbit_channel.erl:1613"),
        ("tx.select again", "keeps the transaction", "rabbit_channel.erl:1609"),
        ("confirm.select behind tx.select", "406 `cannot switch from tx to confirm mode`",
         "rabbit_channel.erl:1641"),
        ("tx.select behind confirm.select", "406 `cannot switch from confirm to tx mode`",
         "rabbit_channel.erl:1604"),
    ),
    "Direct reply-to": section(
        ("Request and answer", "come over the requesting channel, by a name of its own",
         "rabbit_channel.erl:1082"),
        ("Consumer that would acknowledge", "406 `reply consumer cannot acknowledge`",
         "rabbit_channel.erl:1339"),
        ("Second consumer", "406 `reply consumer already set`", "rabbit_channel.erl:1339"),
        ("Request without a consumer", "406 `fast reply consumer does not exist`",
         "rabbit_channel.erl:1082"),
        ("Answer to what is gone", "returned if mandatory, else dropped",
         "rabbit_channel.erl:2171"),
        ("Declared", "declare-ok while it is there, 404 afterwards", "rabbit_channel.erl:2449"),
        ("Bound", "refused", "rabbit_channel.erl:1041"),
        ("Answer, mandatory", "the consumer counts as a queue", "rabbit_channel.erl:2103"),
    ),
    "Not there yet": section(
        ("Arguments of queues", "406 naming the argument: x-message-ttl, x-expires, "
         "x-dead-letter-exchange, x-dead-letter-routing-key, x-max-length, x-max-length-bytes, "
         "x-overflow, x-max-priority, x-single-active-consumer, and those of quorum queues",
         "rabbit_amqqueue.erl:951"),
        ("Quorum queues and streams", "406 naming x-queue-type", "rabbit_amqqueue.erl:1193"),
        ("Message TTL", "406 naming the expiration", "rabbit_channel.erl:919"),
        ("x-consumer-timeout", "406 naming the argument", "rabbit_amqqueue.erl:974"),
        ("AMQP 1.0", "its header is answered with `AMQP 0 0 9 1`", "rabbit_reader.erl:1165"),
    ),
}
