// Scenarios through amqp091-go.
package main

import (
	"fmt"
	"log"
	"os"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const limit = 30 * time.Second

var url = fmt.Sprintf("amqp://%s:%s@%s:%s/", os.Getenv("AMQP_USER"), os.Getenv("AMQP_PASSWORD"),
	os.Getenv("AMQP_HOST"), os.Getenv("AMQP_PORT"))

var scenarios = map[string]func(*amqp.Connection){
	"topology": topology, "confirms": confirms, "returns": returns, "acks": acks,
	"prefetch":        func(c *amqp.Connection) { prefetch(c, false) },
	"global_prefetch": func(c *amqp.Connection) { prefetch(c, true) },
	"get":             get, "large": large, "headers": headers, "errors": errors, "tx": tx,
	"cancel_notify": cancelNotify, "reply_to": replyTo, "expiration": expiration,
	"dead_letters": deadLetters, "heartbeat": heartbeat, "blocked": blocked, "reconnect": reconnect,
	"orderly_close": orderlyClose,
}

func main() {
	log.SetFlags(log.Lshortfile)
	scenario := os.Args[1]
	beat := 30 * time.Second
	if scenario == "heartbeat" {
		beat = time.Second
	}
	connection := must(amqp.DialConfig(url, amqp.Config{Heartbeat: beat}))
	scenarios[scenario](connection)
	if scenario != "reconnect" && scenario != "orderly_close" {
		check(connection.Close())
	}
	fmt.Println("ok", scenario)
}

func name(suffix string) string { return os.Getenv("AMQP_PREFIX") + suffix }

func check(err error) {
	if err != nil {
		log.Output(2, err.Error())
		panic(err)
	}
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func assert(holds bool, what ...any) {
	if !holds {
		log.Output(2, fmt.Sprint(what...))
		panic("assertion failed")
	}
}

// next waits for what a channel of the library brings.
func next[T any](from <-chan T) T {
	select {
	case value := <-from:
		return value
	case <-time.After(limit):
		panic("waited too long")
	}
}

func open(c *amqp.Connection) *amqp.Channel { return must(c.Channel()) }

// own declares a queue of this connection.
func own(ch *amqp.Channel) string {
	return must(ch.QueueDeclare("", false, false, true, false, nil)).Name
}

func ready(ch *amqp.Channel, queue string) int {
	return must(ch.QueueInspect(queue)).Messages
}

func publish(ch *amqp.Channel, queue, body string) {
	check(ch.Publish("", queue, false, false, amqp.Publishing{Body: []byte(body)}))
}

// put publishes and waits until the broker has confirmed.
func put(c *amqp.Connection, queue string, bodies ...[]byte) {
	ch := open(c)
	check(ch.Confirm(false))
	acks := ch.NotifyPublish(make(chan amqp.Confirmation, len(bodies)))
	for _, body := range bodies {
		check(ch.Publish("", queue, false, false, amqp.Publishing{Body: body}))
	}
	for range bodies {
		assert(next(acks).Ack, "not confirmed")
	}
	check(ch.Close())
}

// filled declares a queue of this connection that holds messages 0, 1, 2 ...
func filled(c *amqp.Connection, count int) string {
	queue := own(open(c))
	for number := 0; number < count; number++ {
		put(c, queue, []byte(fmt.Sprint(number)))
	}
	return queue
}

func take(ch *amqp.Channel, queue string) amqp.Delivery {
	message, there, err := ch.Get(queue, true)
	check(err)
	assert(there, "nothing there")
	return message
}

func consume(ch *amqp.Channel, queue string, noAck bool) <-chan amqp.Delivery {
	return must(ch.Consume(queue, "", noAck, false, false, false, nil))
}
