package plain;

import com.rabbitmq.client.ConnectionFactory;

/** Where the broker is, as the environment tells it. */
public final class Place {
    public static final String USER = System.getenv("AMQP_USER");
    public static final int HEARTBEAT_SECONDS = 30;
    private static final int RECOVERY_MILLISECONDS = 100;

    private Place() {}

    /** A name that only this run of this program uses. */
    public static String name(String suffix) {
        return System.getenv("AMQP_PREFIX") + suffix;
    }

    /** The client's defaults, but for a shorter time until it comes back. */
    public static ConnectionFactory factory() {
        var factory = new ConnectionFactory();
        factory.setHost(System.getenv("AMQP_HOST"));
        factory.setPort(Integer.parseInt(System.getenv("AMQP_PORT")));
        factory.setUsername(USER);
        factory.setPassword(System.getenv("AMQP_PASSWORD"));
        factory.setRequestedHeartbeat(HEARTBEAT_SECONDS);
        factory.setNetworkRecoveryInterval(RECOVERY_MILLISECONDS);
        return factory;
    }
}
