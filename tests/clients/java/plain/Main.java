package plain;

import com.rabbitmq.client.Connection;
import java.util.HashMap;
import java.util.Map;

/** Scenarios through RabbitMQ's Java client. */
public final class Main {
    /** A scenario, which fails by throwing. */
    interface Scenario {
        void run(Connection connection) throws Exception;
    }

    private Main() {}

    private static Map<String, Scenario> scenarios() {
        var all = new HashMap<String, Scenario>();
        all.put("topology", Messages::topology);
        all.put("confirms", Messages::confirms);
        all.put("returns", Messages::returns);
        all.put("acks", Messages::acks);
        all.put("prefetch", connection -> Messages.prefetch(connection, false));
        all.put("global_prefetch", connection -> Messages.prefetch(connection, true));
        all.put("get", Messages::get);
        all.put("large", Messages::large);
        all.put("headers", Headers::headers);
        all.put("expiration", Messages::expiration);
        all.put("dead_letters", DeadLetters::deadLetters);
        all.put("tx", Messages::tx);
        all.put("reply_to", Messages::replyTo);
        all.put("errors", Connections::errors);
        all.put("cancel_notify", Connections::cancelNotify);
        all.put("heartbeat", Connections::heartbeat);
        all.put("blocked", Connections::blocked);
        all.put("reconnect", Connections::reconnect);
        all.put("netty", Connections::netty);
        return all;
    }

    public static void main(String[] arguments) throws Exception {
        var scenario = arguments[0];
        var factory = Place.factory();
        if (scenario.equals("heartbeat")) {
            factory.setRequestedHeartbeat(1);
        }
        try (var connection = factory.newConnection()) {
            scenarios().get(scenario).run(connection);
        }
        System.out.println("ok " + scenario);
    }
}
