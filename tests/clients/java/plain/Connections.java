package plain;

import static plain.Place.name;
import static plain.Support.bytes;
import static plain.Support.check;
import static plain.Support.next;
import static plain.Support.own;
import static plain.Support.publish;
import static plain.Support.same;
import static plain.Support.text;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.AuthenticationFailureException;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ShutdownSignalException;
import io.netty.channel.MultiThreadIoEventLoopGroup;
import io.netty.channel.nio.NioIoHandler;
import java.io.IOException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** What happens to channels and connections. */
final class Connections {
    /** What makes the broker close a channel. */
    interface Fault {
        void on(Channel channel) throws IOException;
    }

    private Connections() {}

    static void errors(Connection connection) throws Exception {
        var queue = name("owned");
        connection.createChannel().queueDeclare(queue, false, true, false, null);
        closes(connection, 404, channel -> channel.queueDeclarePassive(name("no")));
        closes(connection, 406, channel -> channel.queueDeclare(queue, false, true, true, null));
        closes(connection, 406, channel -> channel.basicAck(99, false));
        closes(connection, 404, channel -> channel.basicPublish(name("no"), "", null, bytes("")));
        closes(connection, 403, channel -> channel.exchangeDelete("amq.topic"));
        try (var other = Place.factory().newConnection()) {
            closes(other, 405, channel -> channel.basicGet(queue, true));
        }
        var wrong = Place.factory();
        wrong.setUsername("no");
        try {
            wrong.newConnection();
            throw new AssertionError("logged in");
        } catch (AuthenticationFailureException refused) {
            check(refused.getMessage().contains("ACCESS_REFUSED"), refused);
        }
    }

    /** The channel is closed with this code; the connection goes on. */
    private static void closes(Connection connection, int code, Fault fault) throws Exception {
        var channel = connection.createChannel();
        var closed = new LinkedBlockingQueue<ShutdownSignalException>();
        channel.addShutdownListener(closed::add);
        try {
            fault.on(channel);
        } catch (IOException refused) {
            check(refused.getCause() instanceof ShutdownSignalException, refused);
        }
        var reason = next(closed);
        check(!reason.isHardError() && !reason.isInitiatedByApplication(), reason);
        same(((AMQP.Channel.Close) reason.getReason()).getReplyCode(), code);
        connection.createChannel().close();
    }

    static void cancelNotify(Connection connection) throws Exception {
        var channel = connection.createChannel();
        var queue = channel.queueDeclare(name("doomed"), false, false, false, null).getQueue();
        var cancelled = new LinkedBlockingQueue<String>();
        var tag = channel.basicConsume(queue, (consumer, message) -> {}, cancelled::add);
        connection.createChannel().queueDelete(queue);
        same(next(cancelled), tag);
        channel.exchangeDeclarePassive("amq.direct");
    }

    static void heartbeat(Connection connection) throws Exception {
        same(connection.getHeartbeat(), 1);
        Thread.sleep(5000);
        check(connection.isOpen(), "closed");
        connection.createChannel().exchangeDeclarePassive("amq.direct");
    }

    static void blocked(Connection connection) throws Exception {
        var heard = new LinkedBlockingQueue<String>();
        connection.addBlockedListener(
                reason -> heard.add("blocked: " + reason), () -> heard.add("unblocked"));
        var channel = connection.createChannel();
        channel.confirmSelect();
        publish(channel, own(channel), "held up");
        System.out.println(next(heard));
        same(next(heard), "unblocked");
        Support.confirmed(channel);
    }

    /** The client comes back by itself, declares its queue again and goes on to consume. */
    static void reconnect(Connection connection) throws Exception {
        var channel = connection.createChannel();
        channel.queueDeclare(name("queue"), false, false, false, null);
        var over = new LinkedBlockingQueue<Boolean>();
        channel.basicConsume(name("queue"), false, (tag, message) -> {
            System.out.println("got " + text(message));
            channel.basicAck(message.getEnvelope().getDeliveryTag(), false);
            if (text(message).equals("after")) {
                over.add(true);
            }
        }, tag -> {});
        System.out.println("ready");
        next(over);
    }

    /** The client's other I/O layer, which writes and reads in other pieces. */
    static void netty(Connection ignored) throws Exception {
        var loop = new MultiThreadIoEventLoopGroup(1, NioIoHandler.newFactory());
        var factory = Place.factory();
        factory.netty().eventLoopGroup(loop);
        try (var connection = factory.newConnection()) {
            Messages.confirms(connection);
            Messages.large(connection);
            Messages.acks(connection);
            errors(connection);
        }
        loop.shutdownGracefully(0, 0, TimeUnit.SECONDS).sync();
    }
}
