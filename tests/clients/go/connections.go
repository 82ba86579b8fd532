package main

import (
	"fmt"
	"os"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func errors(c *amqp.Connection) {
	queue := name("owned")
	must(open(c).QueueDeclare(queue, false, false, true, false, nil))
	closes(c, 404, func(ch *amqp.Channel) {
		ch.QueueDeclarePassive(name("no"), false, false, false, false, nil)
	})
	closes(c, 406, func(ch *amqp.Channel) {
		ch.QueueDeclare(queue, false, true, true, false, nil)
	})
	closes(c, 406, func(ch *amqp.Channel) { ch.Ack(99, false) })
	closes(c, 404, func(ch *amqp.Channel) {
		ch.Publish(name("no"), "", false, false, amqp.Publishing{})
	})
	closes(c, 403, func(ch *amqp.Channel) { ch.ExchangeDelete("amq.topic", false, false) })
	other := must(amqp.Dial(url))
	closes(other, 405, func(ch *amqp.Channel) { ch.Get(queue, false) })
	check(other.Close())
	wrong := fmt.Sprintf("amqp://no:body@%s:%s/", os.Getenv("AMQP_HOST"), os.Getenv("AMQP_PORT"))
	_, err := amqp.Dial(wrong)
	assert(err == amqp.ErrCredentials, err)
}

// closes: the channel is closed with this code; the connection goes on.
func closes(c *amqp.Connection, code int, action func(*amqp.Channel)) {
	ch := open(c)
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	action(ch)
	err := next(closed)
	assert(err != nil && err.Code == code, err)
	check(open(c).Close())
}

func cancelNotify(c *amqp.Connection) {
	ch := open(c)
	queue := must(ch.QueueDeclare(name("doomed"), false, false, false, false, nil)).Name
	cancelled := ch.NotifyCancel(make(chan string, 1))
	got := must(ch.Consume(queue, "tag", false, false, false, false, nil))
	must(open(c).QueueDelete(queue, false, false, false))
	assert(next(cancelled) == "tag", "another consumer")
	assert(next(got).Acknowledger == nil, "the deliveries go on")
	assert(!ch.IsClosed(), "the channel is closed")
}

func heartbeat(c *amqp.Connection) {
	assert(c.Config.Heartbeat == time.Second, c.Config.Heartbeat)
	time.Sleep(5 * time.Second)
	assert(!c.IsClosed(), "closed")
	check(open(c).Close())
}

// orderlyClose: NotifyClose tells of no error when the program itself closes a connection.
func orderlyClose(c *amqp.Connection) {
	for round := 0; round < 1000; round++ {
		closed := c.NotifyClose(make(chan *amqp.Error, 1))
		if round%10 == 0 {
			own(open(c))
		}
		check(c.Close())
		assert(next(closed) == nil, "an error in round ", round)
		c = again()
	}
	check(c.Close())
}

func blocked(c *amqp.Connection) {
	ch := open(c)
	check(ch.Confirm(false))
	heard := c.NotifyBlocked(make(chan amqp.Blocking, 2))
	queue := own(ch)
	acks := ch.NotifyPublish(make(chan amqp.Confirmation, 1))
	publish(ch, queue, "held up")
	first := next(heard)
	assert(first.Active, first)
	fmt.Println("blocked:", first.Reason)
	assert(!next(heard).Active, "blocked again")
	assert(next(acks).Ack, "not confirmed")
}

// reconnect: amqp091-go leaves coming back to its user, who connects again when NotifyClose tells.
func reconnect(c *amqp.Connection) {
	for !consumed(c) {
		c = again()
	}
}

// consumed is whether the last message came before the connection was closed.
func consumed(c *amqp.Connection) bool {
	closed := c.NotifyClose(make(chan *amqp.Error, 1))
	ch := open(c)
	queue := must(ch.QueueDeclare(name("queue"), false, false, false, false, nil)).Name
	fmt.Println("ready")
	for message := range consume(ch, queue, false) {
		fmt.Println("got", string(message.Body))
		check(message.Ack(false))
		if string(message.Body) == "after" {
			check(c.Close())
			return true
		}
	}
	err := next(closed)
	assert(err != nil && err.Code == 320, err)
	return false
}

func again() *amqp.Connection {
	for deadline := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) {
		c, err := amqp.Dial(url)
		if err == nil {
			return c
		}
		assert(time.Now().Before(deadline), err)
	}
}
