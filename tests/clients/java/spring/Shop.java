package spring;

import java.util.LinkedHashMap;
import java.util.Map;
import org.springframework.amqp.core.AmqpAdmin;
import org.springframework.amqp.rabbit.annotation.EnableRabbit;
import org.springframework.amqp.rabbit.config.AbstractRabbitListenerContainerFactory;
import org.springframework.amqp.rabbit.config.DirectRabbitListenerContainerFactory;
import org.springframework.amqp.rabbit.config.SimpleRabbitListenerContainerFactory;
import org.springframework.amqp.rabbit.connection.CachingConnectionFactory;
import org.springframework.amqp.rabbit.connection.CachingConnectionFactory.ConfirmType;
import org.springframework.amqp.rabbit.connection.ConnectionFactory;
import org.springframework.amqp.rabbit.core.RabbitAdmin;
import org.springframework.amqp.rabbit.core.RabbitTemplate;
import org.springframework.amqp.rabbit.listener.AbstractMessageListenerContainer;
import org.springframework.amqp.rabbit.listener.RabbitListenerEndpointRegistry;
import org.springframework.context.ApplicationContext;
import org.springframework.context.annotation.AnnotationConfigApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import plain.Place;

/** A Spring application; the system property `container` names the kind of listener container. */
@Configuration
@EnableRabbit
public class Shop {
    static final long LIMIT_MILLISECONDS = 30_000;
    // How long the framework waits before it tries something again: seconds by default.
    private static final long AGAIN_MILLISECONDS = 100;

    /** What an application does and sees, once its topology is there and its listeners run. */
    interface Scenario {
        void run(ApplicationContext context) throws Exception;
    }

    /** The configuration that a scenario adds to this one, and its end. */
    record Part(Class<?> configuration, Scenario scenario) {}

    private static Map<String, Part> parts() {
        var parts = new LinkedHashMap<String, Part>();
        parts.put("retries", new Part(Retries.class, Retries::run));
        parts.put("ack_modes", new Part(AckModes.class, AckModes::run));
        parts.put("manual_acks", new Part(ManualAcks.class, ManualAcks::run));
        parts.put("publisher", new Part(Publisher.class, Publisher::run));
        parts.put("broadcast", new Part(Broadcast.class, Broadcast::run));
        parts.put("request_reply", new Part(RequestReply.class, RequestReply::run));
        parts.put("reconnect", new Part(Reconnect.class, Reconnect::run));
        return parts;
    }

    @Bean
    CachingConnectionFactory connectionFactory() {
        var factory = new CachingConnectionFactory(System.getenv("AMQP_HOST"),
                Integer.parseInt(System.getenv("AMQP_PORT")));
        factory.setUsername(Place.USER);
        factory.setPassword(System.getenv("AMQP_PASSWORD"));
        factory.setRequestedHeartBeat(Place.HEARTBEAT_SECONDS);
        factory.setPublisherConfirmType(ConfirmType.CORRELATED);
        factory.setPublisherReturns(true);
        return factory;
    }

    @Bean
    RabbitAdmin admin(ConnectionFactory connections) {
        var admin = new RabbitAdmin(connections);
        admin.setRetryTemplate(null);
        return admin;
    }

    @Bean
    RabbitTemplate template(ConnectionFactory connections) {
        var template = new RabbitTemplate(connections);
        template.setMandatory(true);
        template.setReplyTimeout(LIMIT_MILLISECONDS);
        return template;
    }

    @Bean
    SimpleRabbitListenerContainerFactory simple(ConnectionFactory connections) {
        var factory = new SimpleRabbitListenerContainerFactory();
        factory.setMissingQueuesFatal(false); // as in the other kind
        return prepared(factory, connections);
    }

    @Bean
    DirectRabbitListenerContainerFactory direct(ConnectionFactory connections) {
        var factory = new DirectRabbitListenerContainerFactory();
        factory.setMonitorInterval(AGAIN_MILLISECONDS);
        return prepared(factory, connections);
    }

    private static <C extends AbstractMessageListenerContainer,
            F extends AbstractRabbitListenerContainerFactory<C>> F prepared(
            F factory, ConnectionFactory connections) {
        factory.setConnectionFactory(connections);
        factory.setAutoStartup(false);
        factory.setRecoveryInterval(AGAIN_MILLISECONDS);
        factory.setFailedDeclarationRetryInterval(AGAIN_MILLISECONDS);
        return factory;
    }

    public static void main(String[] arguments) throws Exception {
        var part = parts().get(arguments[0]);
        try (var context =
                new AnnotationConfigApplicationContext(Shop.class, part.configuration())) {
            // A refused declaration ends the program; a listener container would try again.
            context.getBean(RabbitAdmin.class).initialize();
            context.getBean(RabbitListenerEndpointRegistry.class).start();
            part.scenario().run(context);
        }
        System.out.println("ok " + arguments[0]);
        // A thread of the framework may outlive the context when it had to connect again.
        Runtime.getRuntime().halt(0);
    }

    /** Sends to a queue on one channel, since only that keeps messages in their order. */
    static void send(RabbitTemplate template, String queue, String... texts) {
        template.invoke(on -> {
            for (var text : texts) {
                on.convertAndSend(queue, text);
            }
            return null;
        });
    }

    /** Waits until so many messages are ready in a queue. */
    static void holds(ApplicationContext context, String queue, int count) throws Exception {
        var admin = context.getBean(AmqpAdmin.class);
        var deadline = System.currentTimeMillis() + LIMIT_MILLISECONDS;
        while (admin.getQueueInfo(queue).getMessageCount() != count) {
            if (System.currentTimeMillis() > deadline) {
                throw new AssertionError(queue + ": " + admin.getQueueInfo(queue));
            }
            Thread.sleep(10);
        }
    }
}
