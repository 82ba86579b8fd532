"""Tutorial one: a message goes through a queue."""

from common import main, name, receive


def send(channel, text):
    channel.queue_declare(queue=name("hello"))
    channel.basic_publish(exchange="", routing_key=name("hello"), body=text)


def take(channel):
    channel.queue_declare(queue=name("hello"))
    receive(channel, name("hello"), lambda method, properties, body: print(
        "got", body.decode(), flush=True))


main(send=send, receive=take)
