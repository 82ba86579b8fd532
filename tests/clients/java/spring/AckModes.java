package spring;

import static plain.Place.name;
import static plain.Support.next;
import static plain.Support.same;

import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import org.springframework.amqp.AmqpRejectAndDontRequeueException;
import org.springframework.amqp.core.Declarables;
import org.springframework.amqp.core.Message;
import org.springframework.amqp.core.Queue;
import org.springframework.amqp.rabbit.annotation.RabbitListener;
import org.springframework.amqp.rabbit.core.RabbitTemplate;
import org.springframework.amqp.rabbit.listener.RabbitListenerEndpointRegistry;
import org.springframework.context.ApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import plain.Support;

/** The container acknowledges: once the listener has returned, or not at all. */
@Configuration
class AckModes {
    private final BlockingQueue<String> seen = new LinkedBlockingQueue<>();

    @Bean
    Declarables queues() {
        return new Declarables(new Queue(name("auto")), new Queue(name("none")));
    }

    @RabbitListener(
            id = "auto", queues = "${AMQP_PREFIX}auto", containerFactory = "${container}",
            ackMode = "AUTO")
    void auto(Message message) {
        var again = message.getMessageProperties().isRedelivered();
        var text = Support.text(message.getBody());
        seen.add(text + (again ? " again" : ""));
        if (text.equals("doomed")) {
            throw new AmqpRejectAndDontRequeueException("for good");
        }
        if (text.equals("second time") && !again) {
            throw new IllegalStateException("once more");
        }
    }

    @RabbitListener(
            id = "none", queues = "${AMQP_PREFIX}none", containerFactory = "${container}",
            ackMode = "NONE")
    void none(Message message) {
        seen.add(Support.text(message.getBody()));
        throw new IllegalStateException("too late: it counts as acknowledged");
    }

    static void run(ApplicationContext context) throws Exception {
        var seen = context.getBean(AckModes.class).seen;
        var template = context.getBean(RabbitTemplate.class);
        Shop.send(template, name("auto"), "doomed", "second time");
        for (var text : List.of("doomed", "second time", "second time again")) {
            same(next(seen), text);
        }
        template.convertAndSend(name("none"), "lost");
        same(next(seen), "lost");
        // What a stopped container had not acknowledged would be back in the queue.
        context.getBean(RabbitListenerEndpointRegistry.class).stop();
        Shop.holds(context, name("auto"), 0);
        Shop.holds(context, name("none"), 0);
        same(seen.size(), 0);
    }
}
