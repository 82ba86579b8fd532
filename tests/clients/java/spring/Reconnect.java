package spring;

import static plain.Place.name;

import java.util.concurrent.CountDownLatch;
import org.springframework.amqp.core.Queue;
import org.springframework.amqp.core.QueueBuilder;
import org.springframework.amqp.rabbit.annotation.RabbitListener;
import org.springframework.context.ApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import plain.Support;

/** The admin declares the queue again and the container consumes again, on a new connection. */
@Configuration
class Reconnect {
    private final CountDownLatch over = new CountDownLatch(1);

    @Bean
    Queue queue() {
        return QueueBuilder.nonDurable(name("queue")).build();
    }

    @RabbitListener(queues = "${AMQP_PREFIX}queue", containerFactory = "${container}")
    void got(byte[] message) {
        var text = Support.text(message);
        System.out.println("got " + text);
        if (text.equals("after")) {
            over.countDown();
        }
    }

    static void run(ApplicationContext context) throws InterruptedException {
        System.out.println("ready");
        context.getBean(Reconnect.class).over.await();
    }
}
