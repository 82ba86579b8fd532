package plain;

import static plain.Place.name;
import static plain.Support.bytes;
import static plain.Support.check;
import static plain.Support.collect;
import static plain.Support.confirmed;
import static plain.Support.filled;
import static plain.Support.next;
import static plain.Support.own;
import static plain.Support.publish;
import static plain.Support.same;
import static plain.Support.take;
import static plain.Support.text;

import com.rabbitmq.client.AMQP.BasicProperties;
import com.rabbitmq.client.BuiltinExchangeType;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.Return;
import com.rabbitmq.client.RpcClient;
import com.rabbitmq.client.RpcClientParams;
import com.rabbitmq.client.RpcServer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.stream.IntStream;

/** What happens to messages. */
final class Messages {
    private Messages() {}

    static void topology(Connection connection) throws Exception {
        var channel = connection.createChannel();
        String logs = name("logs"), further = name("further"), queue = name("queue");
        channel.exchangeDeclare(logs, BuiltinExchangeType.TOPIC, true);
        channel.exchangeDeclare(further, BuiltinExchangeType.FANOUT, false, true, null);
        channel.exchangeDeclarePassive(logs);
        var declared = channel.queueDeclare(queue, true, false, false, null);
        same(List.of(declared.getQueue(), declared.getMessageCount(), declared.getConsumerCount()),
                List.of(queue, 0, 0));
        channel.queueBind(queue, further, "");
        channel.exchangeBind(further, logs, "kern.*");
        var got = collect(channel, queue, true);
        for (var key : List.of("kern.info", "cron.info", "kern.crit")) {
            channel.basicPublish(logs, key, null, bytes(key));
        }
        var first = next(got).getEnvelope();
        same(List.of(first.getExchange(), first.getRoutingKey()), List.of(logs, "kern.info"));
        same(text(next(got)), "kern.crit");
        channel.exchangeUnbind(further, logs, "kern.*");
        channel.queueUnbind(queue, further, "");
        channel.queueDelete(queue);
        channel.exchangeDelete(logs);
    }

    static void confirms(Connection connection) throws Exception {
        var channel = connection.createChannel();
        var queue = own(channel);
        var outstanding = new TreeSet<Long>();
        channel.confirmSelect();
        channel.addConfirmListener(
                (tag, multiple) -> forget(outstanding, tag, multiple),
                (tag, multiple) -> check(false, "message " + tag + " is refused"));
        for (int number = 0; number < 100; number++) {
            synchronized (outstanding) {
                outstanding.add(channel.getNextPublishSeqNo());
            }
            publish(channel, queue, "" + number);
        }
        confirmed(channel);
        synchronized (outstanding) {
            check(outstanding.isEmpty(), outstanding);
        }
        same(channel.messageCount(queue), 100L);
        same(channel.queuePurge(queue).getMessageCount(), 100);
    }

    private static void forget(TreeSet<Long> outstanding, long tag, boolean multiple) {
        synchronized (outstanding) {
            if (multiple) {
                outstanding.headSet(tag, true).clear();
            } else {
                outstanding.remove(tag);
            }
        }
    }

    static void returns(Connection connection) throws Exception {
        var channel = connection.createChannel();
        var heard = new ArrayList<Return>();
        channel.confirmSelect();
        channel.addReturnListener(heard::add);
        channel.basicPublish("", name("nowhere"), true, null, bytes("lost"));
        confirmed(channel); // a message is returned before it is confirmed
        same(heard.size(), 1);
        same(List.of(heard.get(0).getReplyCode(), heard.get(0).getReplyText()),
                List.of(312, "NO_ROUTE"));
        same(text(heard.get(0).getBody()), "lost");
    }

    static void acks(Connection connection) throws Exception {
        var channel = connection.createChannel();
        var queue = filled(connection, 5);
        var got = new LinkedBlockingQueue<Delivery>();
        var tag = channel.basicConsume(
                queue, false, (consumer, message) -> got.add(message), consumer -> {});
        var tags = new ArrayList<Long>();
        while (tags.size() < 5) {
            tags.add(next(got).getEnvelope().getDeliveryTag());
        }
        channel.basicAck(tags.get(1), true);
        channel.basicReject(tags.get(2), false);
        channel.basicNack(tags.get(4), true, true);
        for (var body : List.of("3", "4")) {
            var again = next(got);
            check(again.getEnvelope().isRedeliver(), "not flagged as redelivered");
            same(text(again), body);
        }
        channel.basicRecover(true);
        next(got);
        channel.basicAck(next(got).getEnvelope().getDeliveryTag(), true);
        channel.basicCancel(tag);
        same(channel.messageCount(queue), 0L);
    }

    static void prefetch(Connection connection, boolean global) throws Exception {
        var channel = connection.createChannel();
        var queue = filled(connection, 10);
        var got = new LinkedBlockingQueue<Delivery>();
        channel.basicQos(3, global);
        for (int consumers = global ? 2 : 1; consumers > 0; consumers--) {
            channel.basicConsume(queue, false, (tag, message) -> got.add(message), tag -> {});
        }
        var tag = 0L;
        for (int count = 0; count < 3; count++) {
            tag = next(got).getEnvelope().getDeliveryTag();
        }
        same(channel.messageCount(queue), 7L);
        channel.basicAck(tag, false);
        next(got);
        same(channel.messageCount(queue), 6L);
        check(got.isEmpty(), "more than the prefetch");
    }

    static void get(Connection connection) throws Exception {
        var channel = connection.createChannel();
        var queue = filled(connection, 2);
        var message = channel.basicGet(queue, false);
        same(List.of(message.getMessageCount(), message.getEnvelope().isRedeliver()),
                List.of(1, false));
        channel.basicNack(message.getEnvelope().getDeliveryTag(), false, true);
        message = channel.basicGet(queue, false);
        same(List.of(text(message.getBody()), message.getEnvelope().isRedeliver()),
                List.of("0", true));
        channel.basicAck(message.getEnvelope().getDeliveryTag(), false);
        same(text(take(channel, queue).getBody()), "1");
        same(channel.basicGet(queue, true), null);
    }

    static void large(Connection connection) throws Exception {
        var channel = connection.createChannel();
        var queue = own(channel);
        channel.confirmSelect();
        for (int size : new int[] {1536000, 0, 131064, 131065}) {
            var body = bytes("abcdefg".repeat(size / 7 + 1).substring(0, size));
            channel.basicPublish("", queue, null, body);
            confirmed(channel);
            check(Arrays.equals(take(channel, queue).getBody(), body), "another body of " + size);
        }
    }

    static void expiration(Connection connection) throws Exception {
        var channel = connection.createChannel();
        var queue = own(channel);
        channel.confirmSelect();
        var minute = new BasicProperties.Builder().expiration("60000").build();
        channel.basicPublish("", queue, minute, bytes("kept"));
        confirmed(channel);
        same(take(channel, queue).getProps().getExpiration(), "60000");
        var never = new BasicProperties.Builder().expiration("0").build();
        channel.basicPublish("", queue, never, bytes("gone"));
        confirmed(channel);
        same(channel.messageCount(queue), 0L);
    }

    static void tx(Connection connection) throws Exception {
        var channel = connection.createChannel();
        var outside = connection.createChannel();
        var queue = filled(connection, 1);
        channel.txSelect();
        var message = channel.basicGet(queue, false);
        publish(channel, queue, "committed");
        channel.basicAck(message.getEnvelope().getDeliveryTag(), false);
        same(outside.messageCount(queue), 0L);
        channel.txCommit();
        same(text(take(outside, queue).getBody()), "committed");
        publish(channel, queue, "rolled back");
        channel.txRollback();
        channel.txCommit();
        same(outside.messageCount(queue), 0L);
    }

    /** The client's own RPC, whose answers come by direct reply-to, by several threads at once. */
    static void replyTo(Connection connection) throws Exception {
        var serving = connection.createChannel();
        var server = new RpcServer(serving, own(serving)) {
            @Override
            public byte[] handleCall(Delivery request, BasicProperties reply) {
                var address = request.getProperties().getReplyTo();
                check(address.startsWith("amq.rabbitmq.reply-to."), address);
                return bytes("answer to " + text(request));
            }
        };
        var loop = CompletableFuture.runAsync(() -> {
            try {
                server.mainloop();
            } catch (Exception ended) {
                throw new IllegalStateException(ended);
            }
        });
        var client = new RpcClient(new RpcClientParams()
                .channel(connection.createChannel()).exchange("").routingKey(server.getQueueName())
                .timeout(Support.LIMIT_SECONDS * 1000));
        var answers = IntStream.range(0, 20).mapToObj(number -> CompletableFuture.supplyAsync(() -> {
            try {
                return text(client.primitiveCall(bytes("" + number)));
            } catch (Exception lost) {
                throw new IllegalStateException(lost);
            }
        })).toList();
        for (int number = 0; number < answers.size(); number++) {
            same(answers.get(number).get(), "answer to " + number);
        }
        client.close();
        serving.close(); // which ends the loop
        loop.get();
    }
}
