package spring;

import static plain.Place.name;
import static plain.Support.same;

import java.util.concurrent.CompletableFuture;
import java.util.stream.IntStream;
import org.springframework.amqp.core.Queue;
import org.springframework.amqp.rabbit.annotation.RabbitListener;
import org.springframework.amqp.rabbit.core.RabbitTemplate;
import org.springframework.context.ApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;

/** A template that waits for answers: through direct reply-to, and through a queue each time. */
@Configuration
class RequestReply {
    @Bean
    Queue questions() {
        return new Queue(name("questions"));
    }

    @RabbitListener(queues = "${AMQP_PREFIX}questions", containerFactory = "${container}")
    String answer(String question) {
        return "answer to " + question;
    }

    static void run(ApplicationContext context) {
        var template = context.getBean(RabbitTemplate.class);
        answered(template);
        var temporary = new RabbitTemplate(template.getConnectionFactory());
        temporary.setReplyTimeout(Shop.LIMIT_MILLISECONDS);
        temporary.setUseTemporaryReplyQueues(true);
        answered(temporary);
    }

    private static void answered(RabbitTemplate template) {
        var answers = IntStream.range(0, 20).mapToObj(number -> CompletableFuture.supplyAsync(
                () -> template.convertSendAndReceive(name("questions"), "" + number))).toList();
        for (int number = 0; number < answers.size(); number++) {
            same(answers.get(number).join(), "answer to " + number);
        }
    }
}
