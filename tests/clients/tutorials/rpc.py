"""Tutorial six: a request goes to the server's queue, its answer to the client's."""

import uuid

import pika
from common import main, name


def server(channel):
    channel.queue_declare(queue=name("rpc"))
    channel.basic_qos(prefetch_count=1)
    channel.basic_consume(name("rpc"), answer)
    print("waiting", flush=True)
    channel.start_consuming()


def answer(channel, method, properties, body):
    channel.basic_publish(
        exchange="", routing_key=properties.reply_to, body=str(fibonacci(int(body))),
        properties=pika.BasicProperties(correlation_id=properties.correlation_id))
    channel.basic_ack(delivery_tag=method.delivery_tag)


def fibonacci(number):
    one, other = 0, 1
    for _ in range(number):
        one, other = other, one + other
    return one


def client(channel, *numbers):
    answers = {}
    callback_queue = channel.queue_declare(queue="", exclusive=True).method.queue
    channel.basic_consume(
        callback_queue, lambda _, method, properties, body: answers.update(
            {properties.correlation_id: body.decode()}), auto_ack=True)
    for number in numbers:
        call = str(uuid.uuid4())
        channel.basic_publish("", name("rpc"), number, pika.BasicProperties(
            reply_to=callback_queue, correlation_id=call))
        while call not in answers:
            channel.connection.process_data_events(time_limit=None)
        print(f"fib({number}) is {answers[call]}", flush=True)


main(server=server, client=client)
