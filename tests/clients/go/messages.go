package main

import (
	"bytes"
	"fmt"
	"reflect"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func topology(c *amqp.Connection) {
	ch := open(c)
	logs, further := name("logs"), name("further")
	check(ch.ExchangeDeclare(logs, "topic", true, false, false, false, nil))
	check(ch.ExchangeDeclare(further, "fanout", false, true, false, false, nil))
	check(ch.ExchangeDeclarePassive(logs, "topic", true, false, false, false, nil))
	queue := must(ch.QueueDeclare(name("queue"), true, false, false, false, nil))
	assert(queue == amqp.Queue{Name: name("queue")}, queue)
	check(ch.QueueBind(queue.Name, "", further, false, nil))
	check(ch.ExchangeBind(further, "kern.*", logs, false, nil))
	got := consume(ch, queue.Name, true)
	for _, key := range []string{"kern.info", "cron.info", "kern.crit"} {
		check(ch.Publish(logs, key, false, false, amqp.Publishing{Body: []byte(key)}))
	}
	first, second := next(got), next(got)
	assert(first.RoutingKey == "kern.info" && first.Exchange == logs, first)
	assert(string(second.Body) == "kern.crit", second)
	check(ch.ExchangeUnbind(further, "kern.*", logs, false, nil))
	check(ch.QueueUnbind(queue.Name, "", further, nil))
	must(ch.QueueDelete(queue.Name, false, false, false))
	check(ch.ExchangeDelete(logs, false, false))
}

func confirms(c *amqp.Connection) {
	ch := open(c)
	queue := own(ch)
	check(ch.Confirm(false))
	acks := ch.NotifyPublish(make(chan amqp.Confirmation, 100))
	for number := 0; number < 100; number++ {
		publish(ch, queue, fmt.Sprint(number))
	}
	for tag := uint64(1); tag <= 100; tag++ {
		confirmed := next(acks)
		assert(confirmed.Ack && confirmed.DeliveryTag == tag, confirmed)
	}
	assert(ready(ch, queue) == 100, "not all there")
	assert(must(ch.QueuePurge(queue, false)) == 100, "not all purged")
}

func returns(c *amqp.Connection) {
	ch := open(c)
	returned := ch.NotifyReturn(make(chan amqp.Return, 1))
	lost := amqp.Publishing{Body: []byte("lost")}
	check(ch.Publish("", name("nowhere"), true, false, lost))
	back := next(returned)
	assert(back.ReplyCode == 312 && back.ReplyText == "NO_ROUTE", back)
	assert(string(back.Body) == "lost", back)
}

func acks(c *amqp.Connection) {
	ch, queue := open(c), filled(c, 5)
	got := must(ch.Consume(queue, "tag", false, false, false, false, nil))
	var all []amqp.Delivery
	for len(all) < 5 {
		all = append(all, next(got))
	}
	check(all[1].Ack(true))
	check(all[2].Reject(false))
	check(all[4].Nack(true, true))
	for _, body := range []string{"3", "4"} {
		again := next(got)
		assert(again.Redelivered && string(again.Body) == body, again)
	}
	check(ch.Recover(true))
	next(got)
	check(next(got).Ack(true))
	check(ch.Cancel("tag", false))
	assert(ready(ch, queue) == 0, "some left")
}

func prefetch(c *amqp.Connection, global bool) {
	ch, queue := open(c), filled(c, 10)
	check(ch.Qos(3, 0, global))
	first := consume(ch, queue, false)
	second := make(<-chan amqp.Delivery)
	if global {
		second = consume(ch, queue, false)
	}
	var last amqp.Delivery
	receive := func() {
		select {
		case last = <-first:
		case last = <-second:
		case <-time.After(limit):
			panic("waited too long")
		}
	}
	for count := 0; count < 3; count++ {
		receive()
	}
	assert(ready(ch, queue) == 7, "wrong prefetch")
	check(last.Ack(false))
	receive()
	assert(ready(ch, queue) == 6, "wrong prefetch after an ack")
}

func get(c *amqp.Connection) {
	ch, queue := open(c), filled(c, 2)
	message, there, err := ch.Get(queue, false)
	check(err)
	assert(there && message.MessageCount == 1 && !message.Redelivered, message)
	check(message.Nack(false, true))
	message, _, err = ch.Get(queue, false)
	check(err)
	assert(message.Redelivered && string(message.Body) == "0", message)
	check(message.Ack(false))
	assert(string(take(ch, queue).Body) == "1", "not in order")
	_, there, err = ch.Get(queue, false)
	check(err)
	assert(!there, "not empty")
}

func large(c *amqp.Connection) {
	ch := open(c)
	queue := own(ch)
	for _, size := range []int{1536000, 0, 131064, 131065} {
		body := bytes.Repeat([]byte("abcdefg"), size/7+1)[:size]
		put(c, queue, body)
		assert(bytes.Equal(take(ch, queue).Body, body), "another body of ", size)
	}
}

func headers(c *amqp.Connection) {
	ch := open(c)
	queue := own(ch)
	when := time.Unix(1577934245, 0).UTC()
	sent := amqp.Publishing{
		Headers: amqp.Table{
			"text": "grün", "bytes": []byte{0, 255}, "true": true, "false": false,
			"byte": byte(200), "int16": int16(-300), "int32": int32(-7), "int64": int64(1 << 60),
			"float": float32(0.5), "double": 2.5, "none": nil, "time": when,
			"decimal": amqp.Decimal{Scale: 2, Value: 314},
			"list":    []interface{}{int32(1), "two", nil, []interface{}{int32(3)}},
			"table":   amqp.Table{"inner": amqp.Table{"deep": int32(1)}},
		},
		ContentType: "text/plain", ContentEncoding: "utf-8", DeliveryMode: 2, Priority: 3,
		CorrelationId: "c", ReplyTo: "r", MessageId: "m", Timestamp: when, Type: "t",
		UserId: "guest", AppId: "a", Body: []byte("x"),
	}
	check(ch.Publish("", queue, false, false, sent))
	back := take(ch, queue)
	back.Headers["time"] = back.Headers["time"].(time.Time).UTC()
	same := amqp.Publishing{
		Headers: back.Headers, ContentType: back.ContentType, Type: back.Type, Body: back.Body,
		ContentEncoding: back.ContentEncoding, DeliveryMode: back.DeliveryMode,
		Priority: back.Priority, CorrelationId: back.CorrelationId, ReplyTo: back.ReplyTo,
		MessageId: back.MessageId, Timestamp: back.Timestamp.UTC(), UserId: back.UserId,
		AppId: back.AppId,
	}
	assert(reflect.DeepEqual(same, sent), same)
}

func expiration(c *amqp.Connection) {
	ch := open(c)
	check(ch.Confirm(false))
	acks := ch.NotifyPublish(make(chan amqp.Confirmation, 1))
	queue := own(ch)
	send := func(expiration string) {
		message := amqp.Publishing{Expiration: expiration}
		check(ch.Publish("", queue, false, false, message))
		assert(next(acks).Ack, "not confirmed")
	}
	send("60000")
	assert(take(ch, queue).Expiration == "60000", "another expiration")
	send("0")
	assert(ready(ch, queue) == 0, "not expired")
}

func deadLetters(c *amqp.Connection) {
	ch, waiting := open(c), name("waiting")
	dead := own(ch)
	must(ch.QueueDeclare(waiting, false, false, true, false, amqp.Table{
		"x-message-ttl": int32(60000), "x-dead-letter-exchange": "",
		"x-dead-letter-routing-key": dead,
	}))
	got := consume(ch, dead, true)
	publish(ch, waiting, "rejected")
	message, _, err := ch.Get(waiting, false)
	check(err)
	check(message.Reject(false))
	died(next(got), "rejected", waiting, amqp.Table{})
	expired := amqp.Publishing{Body: []byte("expired"), Expiration: "20"}
	check(ch.Publish("", waiting, false, false, expired))
	died(next(got), "expired", waiting, amqp.Table{"original-expiration": "20"})
}

// died: a dead letter tells why, where from, and what else is said here.
func died(message amqp.Delivery, reason, queue string, expected amqp.Table) {
	assert(string(message.Body) == reason && message.Expiration == "", message)
	assert(message.Headers["x-first-death-reason"] == reason, message.Headers)
	deaths := message.Headers["x-death"].([]interface{})
	death := deaths[0].(amqp.Table)
	_, told := death["time"].(time.Time)
	assert(told && len(deaths) == 1, deaths)
	expected["time"], expected["count"], expected["reason"] = death["time"], int64(1), reason
	expected["queue"], expected["exchange"] = queue, ""
	expected["routing-keys"] = []interface{}{queue}
	assert(reflect.DeepEqual(death, expected), death)
}

func tx(c *amqp.Connection) {
	ch, outside := open(c), open(c)
	queue := filled(c, 1)
	check(ch.Tx())
	message, _, err := ch.Get(queue, false)
	check(err)
	publish(ch, queue, "committed")
	check(message.Ack(false))
	assert(ready(outside, queue) == 0, "published before the commit")
	check(ch.TxCommit())
	assert(string(take(outside, queue).Body) == "committed", "another message")
	publish(ch, queue, "rolled back")
	check(ch.TxRollback())
	check(ch.TxCommit())
	assert(ready(outside, queue) == 0, "published in spite of the rollback")
}

func replyTo(c *amqp.Connection) {
	ch := open(c)
	queue := own(ch)
	answers := consume(ch, "amq.rabbitmq.reply-to", true)
	question := amqp.Publishing{ReplyTo: "amq.rabbitmq.reply-to", Body: []byte("question")}
	check(ch.Publish("", queue, false, false, question))
	asked := take(ch, queue)
	server := must(amqp.Dial(url))
	publish(open(server), asked.ReplyTo, "answer to "+string(asked.Body))
	assert(string(next(answers).Body) == "answer to question", "another answer")
	check(server.Close())
}
