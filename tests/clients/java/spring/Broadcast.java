package spring;

import static plain.Place.name;
import static plain.Support.next;
import static plain.Support.same;

import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.springframework.amqp.core.AnonymousQueue;
import org.springframework.amqp.core.BindingBuilder;
import org.springframework.amqp.core.Declarables;
import org.springframework.amqp.core.FanoutExchange;
import org.springframework.amqp.core.Queue;
import org.springframework.amqp.core.QueueBuilder;
import org.springframework.amqp.rabbit.annotation.RabbitListener;
import org.springframework.amqp.rabbit.connection.CorrelationData;
import org.springframework.amqp.rabbit.core.RabbitTemplate;
import org.springframework.amqp.rabbit.listener.RabbitListenerEndpointRegistry;
import org.springframework.context.ApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import plain.Support;

/** Every instance hears of each event: one queue is its own, one expires when it is unused. */
@Configuration
class Broadcast {
    private static final int EXPIRES_MILLISECONDS = 300;

    private final BlockingQueue<String> heard = new LinkedBlockingQueue<>();

    @Bean
    Queue own() {
        return new AnonymousQueue(() -> name("own"));
    }

    @Bean
    Queue expiring() {
        return QueueBuilder.durable(name("expiring")).expires(EXPIRES_MILLISECONDS).build();
    }

    @Bean
    Declarables bindings(Queue own, Queue expiring) {
        var events = new FanoutExchange(name("events"));
        return new Declarables(events, BindingBuilder.bind(own).to(events),
                BindingBuilder.bind(expiring).to(events));
    }

    @RabbitListener(queues = "#{own.name}", containerFactory = "${container}")
    void own(String event) {
        heard.add("own: " + event);
    }

    @RabbitListener(queues = "#{expiring.name}", containerFactory = "${container}")
    void expiring(String event) {
        heard.add("expiring: " + event);
    }

    static void run(ApplicationContext context) throws Exception {
        var heard = context.getBean(Broadcast.class).heard;
        var template = context.getBean(RabbitTemplate.class);
        // A queue with consumers does not expire.
        var end = System.nanoTime() + 2 * EXPIRES_MILLISECONDS * 1_000_000L;
        do {
            template.convertAndSend(name("events"), "", "sale");
            same(new TreeSet<>(Set.of(next(heard), next(heard))),
                    new TreeSet<>(Set.of("own: sale", "expiring: sale")));
        } while (System.nanoTime() < end);
        context.getBean(RabbitListenerEndpointRegistry.class).stop();
        gone(template, name("own"));
        gone(template, name("expiring"));
    }

    /** Asks by publishing: to declare an expiring queue passively is to use it. */
    private static void gone(RabbitTemplate template, String queue) throws Exception {
        var deadline = System.currentTimeMillis() + Shop.LIMIT_MILLISECONDS;
        CorrelationData sent;
        do {
            Support.check(System.currentTimeMillis() < deadline, queue + " is still there");
            sent = new CorrelationData();
            template.convertAndSend("", queue, (Object) "anyone?", sent);
            sent.getFuture().get(Shop.LIMIT_MILLISECONDS, TimeUnit.MILLISECONDS);
        } while (sent.getReturned() == null);
    }
}
