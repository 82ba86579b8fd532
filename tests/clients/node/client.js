'use strict';
// Scenarios through amqplib's promises.

const assert = require('node:assert/strict');
const { once } = require('node:events');
const {
  AMQP_USER, LIMIT_MS, bodies, collect, connect, filled, name, pause, ready, run, until,
} = require('./support');

const LARGE = Buffer.alloc(1_536_000, 'abcdefg');

async function topology(connection) {
  const channel = await connection.createChannel();
  const [logs, further, queue] = [name('logs'), name('further'), name('queue')];
  await channel.assertExchange(logs, 'topic', { durable: true });
  await channel.assertExchange(further, 'fanout', { autoDelete: true });
  await channel.checkExchange(logs);
  const declared = await channel.assertQueue(queue, { durable: true });
  assert.deepEqual({ ...declared }, { queue, messageCount: 0, consumerCount: 0 });
  await channel.bindQueue(queue, further, '');
  await channel.bindExchange(further, logs, 'kern.*');
  const { got } = await collect(channel, queue, { noAck: true });
  for (const key of ['kern.info', 'cron.info', 'kern.crit']) {
    channel.publish(logs, key, Buffer.from(key));
  }
  await until(() => got.length === 2);
  assert.deepEqual(bodies(got), ['kern.info', 'kern.crit']);
  assert.deepEqual([got[0].fields.exchange, got[0].fields.routingKey], [logs, 'kern.info']);
  await channel.unbindExchange(further, logs, 'kern.*');
  await channel.unbindQueue(queue, further, '');
  await channel.deleteQueue(queue);
  await channel.deleteExchange(logs);
}

async function confirms(connection) {
  const channel = await connection.createConfirmChannel();
  const { queue } = await channel.assertQueue('', { exclusive: true });
  await Promise.all(Array.from({ length: 100 }, (_, number) => new Promise((done, failed) => {
    channel.sendToQueue(queue, Buffer.from(`${number}`), {}, (e) => (e ? failed(e) : done()));
  })));
  assert.equal(await ready(channel, queue), 100);
  assert.equal((await channel.purgeQueue(queue)).messageCount, 100);
}

async function returns(connection) {
  const channel = await connection.createConfirmChannel();
  const heard = [];
  channel.on('return', (message) => heard.push(message));
  channel.publish('', name('nowhere'), Buffer.from('lost'), { mandatory: true });
  await channel.waitForConfirms();
  assert.deepEqual(bodies(heard), ['lost']);
  assert.deepEqual([heard[0].fields.replyCode, heard[0].fields.replyText], [312, 'NO_ROUTE']);
}

async function acks(connection) {
  const channel = await connection.createChannel();
  const queue = await filled(connection, 5);
  const { got, consumerTag } = await collect(channel, queue);
  await until(() => got.length === 5);
  channel.ack(got[1], true);
  channel.reject(got[2], false);
  channel.nack(got[4], true, true);
  await until(() => got.length === 7);
  assert.deepEqual(bodies(got.slice(5)), ['3', '4']);
  assert.ok(got[5].fields.redelivered && got[6].fields.redelivered);
  await channel.recover();
  await until(() => got.length === 9);
  channel.ackAll();
  await channel.cancel(consumerTag);
  assert.equal(await ready(channel, queue), 0);
}

async function prefetch(connection, isGlobal = false) {
  const channel = await connection.createChannel();
  const queue = await filled(connection, 10);
  await channel.prefetch(3, isGlobal);
  const first = await collect(channel, queue);
  const second = isGlobal ? await collect(channel, queue) : { got: [] };
  const got = () => [...first.got, ...second.got];
  await until(() => got().length === 3);
  assert.equal(await ready(channel, queue), 7);
  channel.ack(got()[0]);
  await until(() => got().length === 4);
  assert.equal(await ready(channel, queue), 6);
}

async function get(connection) {
  const channel = await connection.createChannel();
  const queue = await filled(connection, 2);
  let message = await channel.get(queue);
  assert.deepEqual([message.fields.messageCount, message.fields.redelivered], [1, false]);
  channel.nack(message);
  message = await channel.get(queue);
  assert.deepEqual([message.content.toString(), message.fields.redelivered], ['0', true]);
  channel.ack(message);
  assert.equal((await channel.get(queue, { noAck: true })).content.toString(), '1');
  assert.equal(await channel.get(queue), false);
}

async function large(connection) {
  const channel = await connection.createConfirmChannel();
  const { queue } = await channel.assertQueue('', { exclusive: true });
  for (const size of [LARGE.length, 0, 131_064, 131_065]) {
    const body = LARGE.subarray(0, size);
    channel.sendToQueue(queue, body);
    await channel.waitForConfirms();
    assert.ok((await channel.get(queue, { noAck: true })).content.equals(body));
  }
}

async function headers(connection) {
  const channel = await connection.createChannel();
  const { queue } = await channel.assertQueue('', { exclusive: true });
  const table = {
    text: 'grün', bytes: Buffer.from([0, 255]), yes: true, no: false, small: -7, large: 2 ** 50,
    double: 2.5, none: null, list: [1, 'two', null, [3]], table: { inner: { deep: 1 } },
    time: { '!': 'timestamp', value: 1577934245 },
    decimal: { '!': 'decimal', value: { digits: 314, places: 2 } },
    float: { '!': 'float', value: 0.5 }, short: { '!': 'int16', value: -300 },
  };
  const properties = {
    contentType: 'text/plain', contentEncoding: 'utf-8', deliveryMode: 2, priority: 3,
    correlationId: 'c', replyTo: 'r', messageId: 'm', timestamp: 1577934245, type: 't',
    userId: AMQP_USER, appId: 'a',
  };
  channel.sendToQueue(queue, Buffer.from('x'), { ...properties, headers: table });
  const back = (await channel.get(queue, { noAck: true })).properties;
  for (const [key, value] of Object.entries(properties)) assert.equal(back[key], value, key);
  const { float, short, ...same } = table;
  const { float: floatBack, short: shortBack, ...sameBack } = { ...back.headers };
  assert.deepEqual(sameBack, same);
  assert.deepEqual([floatBack, shortBack], [float.value, short.value]);
}

// The channel is closed with this code; the connection goes on.
async function closes(connection, code, action) {
  const channel = await connection.createChannel();
  const closed = once(channel, 'error');
  const answered = (async () => action(channel))();
  const [error] = await closed;
  assert.equal(error.code, code, error.message);
  await answered.catch(() => {});
  await (await connection.createChannel()).close();
}

async function errors(connection) {
  const owner = await connection.createChannel();
  const queue = name('owned');
  await owner.assertQueue(queue, { exclusive: true });
  await closes(connection, 404, (channel) => channel.checkQueue(name('no')));
  await closes(connection, 406, (channel) => channel.assertQueue(
    queue, { exclusive: true, autoDelete: true }));
  await closes(connection, 406, (channel) => channel.ack({ fields: { deliveryTag: 99 } }));
  await closes(connection, 404, (channel) => channel.publish(name('no'), '', Buffer.from('')));
  await closes(connection, 403, (channel) => channel.deleteExchange('amq.topic'));
  const other = await connect();
  await closes(other, 405, (channel) => channel.get(queue));
  await other.close();
  await assert.rejects(connect({ username: 'no' }), /403/);
}

async function cancelNotify(connection) {
  const channel = await connection.createChannel();
  const { queue } = await channel.assertQueue(name('doomed'));
  const { got } = await collect(channel, queue);
  await (await connection.createChannel()).deleteQueue(queue);
  await until(() => got.length === 1);
  assert.equal(got[0], null);
  await channel.checkExchange('amq.direct');
}

async function replyTo(connection) {
  const channel = await connection.createChannel();
  const { queue } = await channel.assertQueue('', { exclusive: true });
  const { got } = await collect(channel, 'amq.rabbitmq.reply-to', { noAck: true });
  channel.sendToQueue(queue, Buffer.from('question'), { replyTo: 'amq.rabbitmq.reply-to' });
  const asked = await channel.get(queue, { noAck: true });
  const server = await connect();
  const answering = await server.createChannel();
  answering.sendToQueue(asked.properties.replyTo, Buffer.from(`answer to ${asked.content}`));
  await until(() => got.length === 1);
  assert.deepEqual(bodies(got), ['answer to question']);
  await server.close();
}

async function expiration(connection) {
  const channel = await connection.createConfirmChannel();
  const { queue } = await channel.assertQueue('', { exclusive: true });
  channel.sendToQueue(queue, Buffer.from('kept'), { expiration: 60_000 });
  await channel.waitForConfirms();
  assert.equal((await channel.get(queue, { noAck: true })).properties.expiration, '60000');
  channel.sendToQueue(queue, Buffer.from('gone'), { expiration: 0 });
  await channel.waitForConfirms();
  assert.equal(await ready(channel, queue), 0);
}

async function deadLetters(connection) {
  const channel = await connection.createConfirmChannel();
  const waiting = name('waiting');
  const { queue: dead } = await channel.assertQueue('', { exclusive: true });
  await channel.assertQueue(waiting, {
    exclusive: true, messageTtl: 60_000, deadLetterExchange: '', deadLetterRoutingKey: dead,
  });
  const { got } = await collect(channel, dead, { noAck: true });
  channel.sendToQueue(waiting, Buffer.from('rejected'));
  await channel.waitForConfirms();
  channel.reject(await channel.get(waiting), false);
  await until(() => got.length === 1);
  channel.sendToQueue(waiting, Buffer.from('expired'), { expiration: 20 });
  await until(() => got.length === 2);
  assert.deepEqual(bodies(got), ['rejected', 'expired']);
  for (const { content, properties: { headers, expiration: left } } of got) {
    const [{ time, ...death }] = headers['x-death'];
    const further = `${content}` === 'expired' ? { 'original-expiration': '20' } : {};
    assert.equal(time['!'], 'timestamp');
    assert.deepEqual(death, {
      count: 1, reason: `${content}`, queue: waiting, exchange: '', 'routing-keys': [waiting],
      ...further,
    });
    assert.deepEqual([headers['x-first-death-reason'], left], [`${content}`, undefined]);
  }
}

async function heartbeat(connection) {
  assert.equal(connection.connection.heartbeat, 1);
  await pause(5000);
  await (await connection.createChannel()).checkExchange('amq.direct');
}

async function blocked(connection) {
  const channel = await connection.createConfirmChannel();
  const isBlocked = once(connection, 'blocked');
  const isUnblocked = once(connection, 'unblocked');
  const { queue } = await channel.assertQueue('', { exclusive: true });
  channel.sendToQueue(queue, Buffer.from('held up'));
  const [reason] = await isBlocked;
  console.log(`blocked: ${reason}`);
  await isUnblocked;
  await channel.waitForConfirms();
}

// amqplib leaves coming back to its user: connect again when the connection was closed.
async function reconnect(first) {
  let over = false;
  for (let connection = first; !over; connection = over || await again()) {
    const closed = new Promise((done) => { connection.once('close', done); });
    connection.on('error', (error) => assert.match(error.message, /320/));
    await consume(connection, () => { over = true; connection.close(); });
    await closed;
  }
}

async function consume(connection, finish) {
  const channel = await connection.createChannel();
  await channel.assertQueue(name('queue'));
  await channel.consume(name('queue'), (message) => {
    console.log(`got ${message.content}`);
    channel.ack(message);
    if (`${message.content}` === 'after') finish();
  });
  console.log('ready');
}

async function again() {
  for (const deadline = Date.now() + LIMIT_MS; ;) {
    try {
      return await connect();
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await pause(100);
    }
  }
}

const SCENARIOS = {
  topology, confirms, returns, acks, prefetch, get, large, headers, errors, expiration, heartbeat,
  blocked, reconnect, cancel_notify: cancelNotify, reply_to: replyTo, dead_letters: deadLetters,
  global_prefetch: (connection) => prefetch(connection, true),
};

run(SCENARIOS, { heartbeat: { heartbeat: 1 } });
