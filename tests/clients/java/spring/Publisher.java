package spring;

import static plain.Place.name;
import static plain.Support.check;
import static plain.Support.same;

import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import org.springframework.amqp.core.BindingBuilder;
import org.springframework.amqp.core.Declarables;
import org.springframework.amqp.core.DirectExchange;
import org.springframework.amqp.core.Queue;
import org.springframework.amqp.rabbit.connection.CorrelationData;
import org.springframework.amqp.rabbit.connection.CorrelationData.Confirm;
import org.springframework.amqp.rabbit.core.RabbitOperations;
import org.springframework.amqp.rabbit.core.RabbitTemplate;
import org.springframework.context.ApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import plain.Support;

/** A publisher that knows of each message whether it was taken, and where nothing was bound. */
@Configuration
class Publisher {
    @Bean
    Declarables topology() {
        var exchange = new DirectExchange(name("bills"));
        var queue = new Queue(name("bills"));
        return new Declarables(
                exchange, queue, BindingBuilder.bind(queue).to(exchange).with("bill"));
    }

    static void run(ApplicationContext context) throws Exception {
        var template = context.getBean(RabbitTemplate.class);
        // On one channel, since only that keeps messages in their order.
        var sent = template.invoke(on -> IntStream.range(0, 100)
                .mapToObj(number -> send(on, name("bills"), "bill", "" + number)).toList());
        for (var each : sent) {
            check(confirm(each).isAck(), "not confirmed");
            same(each.getReturned(), null);
        }
        var lost = send(template, name("bills"), "nobody", "lost");
        check(confirm(lost).isAck(), "a message that is returned is confirmed, too");
        same(List.of(lost.getReturned().getReplyCode(), lost.getReturned().getReplyText(),
                lost.getReturned().getRoutingKey()), List.of(312, "NO_ROUTE", "nobody"));
        same(Support.text(lost.getReturned().getMessage().getBody()), "lost");
        var refused = confirm(send(template, name("no such exchange"), "", "refused"));
        // The reason is the broker's, or the framework's if that closed the channel in between.
        check(!refused.isAck(), refused);
        for (int number = 0; number < 100; number++) {
            same(template.receiveAndConvert(name("bills")), "" + number);
        }
        same(template.receive(name("bills")), null);
    }

    private static CorrelationData send(
            RabbitOperations on, String exchange, String key, String body) {
        var correlation = new CorrelationData(body);
        on.convertAndSend(exchange, key, (Object) body, correlation);
        return correlation;
    }

    private static Confirm confirm(CorrelationData sent) throws Exception {
        return sent.getFuture().get(Shop.LIMIT_MILLISECONDS, TimeUnit.MILLISECONDS);
    }
}
