package plain;

import static plain.Place.name;
import static plain.Support.bytes;
import static plain.Support.check;
import static plain.Support.collect;
import static plain.Support.next;
import static plain.Support.own;
import static plain.Support.publish;
import static plain.Support.same;
import static plain.Support.text;

import com.rabbitmq.client.AMQP.BasicProperties;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.Delivery;
import java.util.Date;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** A queue that passes on what it rejects and what expires in it. */
final class DeadLetters {
    private DeadLetters() {}

    static void deadLetters(Connection connection) throws Exception {
        var channel = connection.createChannel();
        String dead = own(channel), waiting = name("waiting");
        channel.queueDeclare(waiting, false, true, false, Map.of(
                "x-message-ttl", 60000, "x-dead-letter-exchange", "",
                "x-dead-letter-routing-key", dead));
        var got = collect(channel, dead, true);
        publish(channel, waiting, "rejected");
        var tag = channel.basicGet(waiting, false).getEnvelope().getDeliveryTag();
        channel.basicReject(tag, false);
        died(next(got), "rejected", waiting, Map.of());
        var soon = new BasicProperties.Builder().expiration("20").build();
        channel.basicPublish("", waiting, soon, bytes("expired"));
        died(next(got), "expired", waiting, Map.of("original-expiration", "20"));
    }

    /** A dead letter tells why, where from, and what else is said here. */
    private static void died(
            Delivery message, String reason, String queue, Map<String, Object> further) {
        same(text(message), reason);
        same(message.getProperties().getExpiration(), null);
        var headers = (Map<?, ?>) Headers.plain(message.getProperties().getHeaders());
        same(headers.get("x-first-death-reason"), reason);
        var expected = new HashMap<Object, Object>(further);
        expected.putAll(Map.of(
                "count", 1L, "reason", reason, "queue", queue, "exchange", "",
                "routing-keys", List.of(queue)));
        var deaths = (List<?>) headers.get("x-death");
        same(deaths.size(), 1);
        var death = new HashMap<Object, Object>((Map<?, ?>) deaths.get(0));
        check(death.remove("time") instanceof Date, deaths);
        same(death, expected);
    }
}
