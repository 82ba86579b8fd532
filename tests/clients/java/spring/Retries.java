package spring;

import static plain.Place.name;
import static plain.Support.same;

import java.util.ArrayList;
import java.util.Date;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import org.springframework.amqp.AmqpRejectAndDontRequeueException;
import org.springframework.amqp.core.BindingBuilder;
import org.springframework.amqp.core.Declarables;
import org.springframework.amqp.core.DirectExchange;
import org.springframework.amqp.core.FanoutExchange;
import org.springframework.amqp.core.Message;
import org.springframework.amqp.core.QueueBuilder;
import org.springframework.amqp.core.TopicExchange;
import org.springframework.amqp.rabbit.annotation.RabbitListener;
import org.springframework.amqp.rabbit.core.RabbitTemplate;
import org.springframework.beans.factory.annotation.Autowired;
import org.springframework.context.ApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import plain.Support;

/**
 * Retries with a delay. A rejected order is a dead letter, waits in a second queue until its time
 * to live is over, and so comes back as a dead letter of that queue; after three times it is
 * parked.
 */
@Configuration
class Retries {
    private static final int RETRIES = 3;
    private static final int DELAY_MILLISECONDS = 200;

    private final BlockingQueue<String> attempts = new LinkedBlockingQueue<>();

    @Autowired private RabbitTemplate template;

    @Bean
    Declarables topology() {
        var work = new TopicExchange(name("work"));
        var retry = new FanoutExchange(name("retry"));
        var parked = new DirectExchange(name("parked"));
        var orders = QueueBuilder.durable(name("orders"))
                .deadLetterExchange(retry.getName()).build();
        var waiting = QueueBuilder.durable(name("waiting")).ttl(DELAY_MILLISECONDS)
                .deadLetterExchange(work.getName()).build();
        var parking = QueueBuilder.durable(name("parking")).build();
        return new Declarables(
                work, retry, parked, orders, waiting, parking,
                BindingBuilder.bind(orders).to(work).with("order.#"),
                BindingBuilder.bind(waiting).to(retry),
                BindingBuilder.bind(parking).to(parked).with("orders"));
    }

    @RabbitListener(queues = "${AMQP_PREFIX}orders", containerFactory = "${container}")
    void order(Message message) {
        var order = Support.text(message.getBody());
        var retries = retries(message);
        attempts.add(order + " " + retries);
        if (order.equals("good") || order.equals("late") && retries == 1) {
            return;
        }
        if (retries < RETRIES) {
            throw new AmqpRejectAndDontRequeueException("not yet");
        }
        template.send(name("parked"), "orders", message);
    }

    /** How often the order was rejected. */
    private static long retries(Message message) {
        var deaths = message.getMessageProperties().getXDeathHeader();
        return deaths == null ? 0 : deaths.stream()
                .filter(death -> death.get("reason").equals("rejected"))
                .mapToLong(death -> (Long) death.get("count")).sum();
    }

    static void run(ApplicationContext context) throws Exception {
        var shop = context.getBean(Retries.class);
        shop.template.invoke(onOneChannel -> {
            for (var order : List.of("bad", "good", "late", "worse")) {
                onOneChannel.convertAndSend(name("work"), "order." + order, order);
            }
            return null;
        });
        var parked = List.of(shop.parked(), shop.parked());
        same(new ArrayList<>(shop.attempts), List.of(
                "bad 0", "good 0", "late 0", "worse 0", "bad 1", "late 1", "worse 1",
                "bad 2", "worse 2", "bad 3", "worse 3"));
        died(parked.get(0), "bad");
        died(parked.get(1), "worse");
        for (var queue : List.of("orders", "waiting", "parking")) {
            Shop.holds(context, name(queue), 0);
        }
    }

    private Message parked() {
        var message = template.receive(name("parking"), Shop.LIMIT_MILLISECONDS);
        Support.check(message != null, "nothing was parked");
        return message;
    }

    /** A parked order tells the story of its deaths, the last one first. */
    private static void died(Message message, String order) {
        same(Support.text(message.getBody()), order);
        var properties = message.getMessageProperties();
        var key = List.of("order." + order);
        var deaths = properties.getXDeathHeader().stream().map(Retries::withoutTime).toList();
        same(deaths, List.of(
                death("retry", key, "waiting", "expired"), death("work", key, "orders", "rejected")));
        same(properties.getHeader("x-first-death-exchange"), name("work"));
        same(properties.getHeader("x-first-death-queue"), name("orders"));
        same(properties.getHeader("x-first-death-reason"), "rejected");
    }

    private static Map<String, Object> death(
            String exchange, List<String> keys, String queue, String reason) {
        return new TreeMap<>(Map.of(
                "exchange", name(exchange), "routing-keys", keys, "queue", name(queue),
                "reason", reason, "count", (long) RETRIES));
    }

    private static Map<String, Object> withoutTime(Map<String, ?> death) {
        var rest = new TreeMap<String, Object>(death);
        Support.check(rest.remove("time") instanceof Date, death);
        return rest;
    }
}
