package spring;

import static plain.Place.name;
import static plain.Support.next;
import static plain.Support.same;

import com.rabbitmq.client.Channel;
import java.io.IOException;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import org.springframework.amqp.core.Declarables;
import org.springframework.amqp.core.Message;
import org.springframework.amqp.core.Queue;
import org.springframework.amqp.core.QueueBuilder;
import org.springframework.amqp.rabbit.annotation.RabbitListener;
import org.springframework.amqp.rabbit.core.RabbitTemplate;
import org.springframework.amqp.rabbit.listener.RabbitListenerEndpointRegistry;
import org.springframework.context.ApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import plain.Support;

/** The listener acknowledges by itself; the default exchange takes what it rejects to a queue. */
@Configuration
class ManualAcks {
    private final BlockingQueue<String> seen = new LinkedBlockingQueue<>();

    @Bean
    Declarables queues() {
        return new Declarables(
                new Queue(name("dead")),
                QueueBuilder.durable(name("manual")).deadLetterExchange("")
                        .deadLetterRoutingKey(name("dead")).build());
    }

    @RabbitListener(
            queues = "${AMQP_PREFIX}manual", containerFactory = "${container}", ackMode = "MANUAL")
    void manual(Message message, Channel channel) throws IOException {
        var text = Support.text(message.getBody());
        var tag = message.getMessageProperties().getDeliveryTag();
        var again = message.getMessageProperties().isRedelivered();
        switch (text) {
            case "rejected" -> channel.basicReject(tag, false);
            case "nacked" -> channel.basicNack(tag, false, !again);
            case "kept" -> { }
            default -> channel.basicAck(tag, false);
        }
        seen.add(text + (again ? " again" : ""));
    }

    static void run(ApplicationContext context) throws Exception {
        var seen = context.getBean(ManualAcks.class).seen;
        var template = context.getBean(RabbitTemplate.class);
        Shop.send(template, name("manual"), "acked", "rejected", "nacked");
        for (var text : List.of("acked", "rejected", "nacked", "nacked again")) {
            same(next(seen), text);
        }
        for (var text : List.of("rejected", "nacked")) {
            same(template.receiveAndConvert(name("dead"), Shop.LIMIT_MILLISECONDS), text);
        }
        template.convertAndSend(name("manual"), "kept");
        same(next(seen), "kept");
        context.getBean(RabbitListenerEndpointRegistry.class).stop();
        Shop.holds(context, name("manual"), 1);
    }
}
