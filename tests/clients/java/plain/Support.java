package plain;

import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.GetResponse;
import java.nio.charset.StandardCharsets;
import java.util.Objects;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** What several scenarios need. */
public final class Support {
    static final int LIMIT_SECONDS = 30;

    private Support() {}

    public static void check(boolean holds, Object what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    public static void same(Object found, Object expected) {
        check(Objects.equals(found, expected), found + " is not " + expected);
    }

    /** The next thing that a callback of the library brings. */
    public static <T> T next(BlockingQueue<T> from) throws InterruptedException {
        var value = from.poll(LIMIT_SECONDS, TimeUnit.SECONDS);
        check(value != null, "waited too long");
        return value;
    }

    public static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    public static String text(byte[] body) {
        return new String(body, StandardCharsets.UTF_8);
    }

    public static String text(Delivery message) {
        return text(message.getBody());
    }

    static void publish(Channel channel, String queue, String body) throws Exception {
        channel.basicPublish("", queue, null, bytes(body));
    }

    static void confirmed(Channel channel) throws Exception {
        channel.waitForConfirmsOrDie(TimeUnit.SECONDS.toMillis(LIMIT_SECONDS));
    }

    /** A queue of this connection; the one of `queueDeclare()` ends with its last consumer. */
    static String own(Channel channel) throws Exception {
        return channel.queueDeclare("", false, true, false, null).getQueue();
    }

    /** A queue of this connection that holds messages 0, 1, 2 ... */
    static String filled(Connection connection, int count) throws Exception {
        try (var channel = connection.createChannel()) {
            channel.confirmSelect();
            var queue = own(channel);
            for (int number = 0; number < count; number++) {
                publish(channel, queue, "" + number);
            }
            confirmed(channel);
            return queue;
        }
    }

    static GetResponse take(Channel channel, String queue) throws Exception {
        var message = channel.basicGet(queue, true);
        check(message != null, "nothing there");
        return message;
    }

    /** A consumer that keeps what it gets. */
    static BlockingQueue<Delivery> collect(Channel channel, String queue, boolean autoAck)
            throws Exception {
        var got = new LinkedBlockingQueue<Delivery>();
        channel.basicConsume(queue, autoAck, (tag, message) -> got.add(message), tag -> {});
        return got;
    }
}
