'use strict';
// The topology that MassTransit declares: an exchange for each type of message, bound to those of
// its base types and to the exchange of each endpoint, which has the queue; a queue for what
// failed and one for what nobody handles; a temporary endpoint for the answers to an application.

const assert = require('node:assert/strict');
const { once } = require('node:events');
const { bodies, collect, connect, name, ready, run, until } = require('./support');

const CONTENT_TYPE = 'application/vnd.masstransit+json';
const EXPIRES_MS = 300;
const EVENT = 'Shop.Contracts:IEvent';
const SUBMITTED = 'Shop.Contracts:OrderSubmitted';
const CHECK = 'Shop.Contracts:CheckOrder';

async function declareType(channel, type, ...bases) {
  await channel.assertExchange(name(type), 'fanout', { durable: true });
  for (const base of bases) {
    await declareType(channel, base);
    await channel.bindExchange(name(base), name(type), '');
  }
}

// A receive endpoint, and the types that it has consumers for.
async function declareEndpoint(channel, endpoint, ...types) {
  const queue = name(endpoint);
  await channel.assertQueue(queue, { durable: true });
  await channel.assertExchange(queue, 'fanout', { durable: true });
  await channel.bindQueue(queue, queue, '');
  for (const type of types) {
    await declareType(channel, type);
    await channel.bindExchange(queue, name(type), '');
  }
  return queue;
}

// What an application gets its answers through; it ends with it, or soon after if it never ran.
async function declareBus(channel) {
  const bus = name('host_Shop_bus_1');
  await channel.assertExchange(bus, 'fanout', { durable: false, autoDelete: true });
  await channel.assertQueue(bus, { durable: false, autoDelete: true, expires: EXPIRES_MS });
  await channel.bindQueue(bus, bus, '');
  return bus;
}

function envelope(types, message, further = {}) {
  const messageType = types.map((type) => `urn:message:${type}`);
  return Buffer.from(JSON.stringify({ messageType, message, headers: {}, ...further }));
}

const read = (message) => JSON.parse(message.content.toString());
const numbers = (messages) => messages.map((message) => read(message).message.number);

async function publish(channel, exchange, content, properties = {}) {
  channel.publish(name(exchange), '', content, {
    persistent: true, contentType: CONTENT_TYPE, headers: { 'Content-Type': CONTENT_TYPE },
    ...properties,
  });
  await channel.waitForConfirms();
}

// What is published as one type reaches the consumers of its base types, and each endpoint once.
async function publishSubscribe(connection) {
  const channel = await connection.createConfirmChannel();
  await declareType(channel, SUBMITTED, EVENT);
  const orders = await declareEndpoint(channel, 'orders', SUBMITTED);
  const audit = await declareEndpoint(channel, 'audit', EVENT);
  const both = await declareEndpoint(channel, 'both', SUBMITTED, EVENT);
  for (let number = 0; number < 20; number += 1) {
    await publish(channel, SUBMITTED, envelope([SUBMITTED, EVENT], { number }));
  }
  await publish(channel, EVENT, envelope([EVENT], { number: 20 }));
  await publish(channel, 'orders', envelope([SUBMITTED], { number: 21 }));
  const published = Array.from({ length: 20 }, (_, number) => number);
  for (const [queue, expected] of [
    [orders, [...published, 21]], [audit, [...published, 20]], [both, [...published, 20]]]) {
    await channel.prefetch(16);
    const { got, consumerTag } = await collect(channel, queue);
    await until(() => { got.forEach(ackOnce(channel)); return got.length >= expected.length; });
    assert.deepEqual(numbers(got), expected);
    assert.equal(got[0].fields.exchange, name(SUBMITTED));
    assert.equal(got[0].properties.contentType, CONTENT_TYPE);
    await channel.cancel(consumerTag);
    assert.equal(await ready(channel, queue), 0);
  }
}

function ackOnce(channel) {
  return (message) => {
    if (!message.acked) channel.ack(message);
    message.acked = true;
  };
}

// An endpoint moves a message by publishing it to the exchange beside its own, then acknowledges.
async function move(channel, message, suffix, headers) {
  const target = message.endpoint + suffix;
  await channel.assertExchange(target, 'fanout', { durable: true });
  await channel.assertQueue(target, { durable: true });
  await channel.bindQueue(target, target, '');
  channel.publish(target, '', message.content, {
    ...message.properties, headers: { ...message.properties.headers, ...headers },
  });
  await channel.waitForConfirms();
  channel.ack(message);
}

async function faults(connection) {
  const channel = await connection.createConfirmChannel();
  const orders = await declareEndpoint(channel, 'orders', SUBMITTED);
  const types = [[SUBMITTED], [SUBMITTED], ['Shop.Contracts:Renamed']];
  for (const [number, type] of types.entries()) {
    await publish(channel, 'orders', envelope(type, { number }), { messageId: `id ${number}` });
  }
  const { got, consumerTag } = await collect(channel, orders);
  await until(() => got.length === 3);
  got.forEach((message) => { message.endpoint = orders; });
  channel.ack(got[0]);
  await move(channel, got[1], '_error', {
    'MT-Reason': 'fault', 'MT-Fault-ExceptionType': 'System.Exception', 'MT-Fault-RetryCount': 3,
    'MT-Fault-Message': 'Preis ungültig',
  });
  await move(channel, got[2], '_skipped', { 'MT-Reason': 'dead-letter' });
  await channel.cancel(consumerTag);
  assert.equal(await ready(channel, orders), 0);
  const error = await channel.get(`${orders}_error`);
  const skipped = await channel.get(`${orders}_skipped`);
  assert.deepEqual(numbers([error, skipped]), [1, 2]);
  assert.deepEqual({ ...error.properties.headers }, {
    'Content-Type': CONTENT_TYPE, 'MT-Reason': 'fault', 'MT-Fault-RetryCount': 3,
    'MT-Fault-ExceptionType': 'System.Exception', 'MT-Fault-Message': 'Preis ungültig',
  });
  assert.equal(skipped.properties.headers['MT-Reason'], 'dead-letter');
  assert.deepEqual([error, skipped].map((each) => each.properties.messageId), ['id 1', 'id 2']);
  await replay(channel, error, orders);
}

// As its users put a message back that failed.
async function replay(channel, message, endpoint) {
  channel.publish(endpoint, '', message.content, message.properties);
  await channel.waitForConfirms();
  channel.ack(message);
  assert.deepEqual(numbers([await channel.get(endpoint, { noAck: true })]), [1]);
}

// The answer goes to the address that the request names: an exchange, or direct reply-to.
async function answer(channel, request) {
  const { requestId, responseAddress, message } = read(request);
  const content = envelope(['Shop.Contracts:OrderStatus'], { number: message.number * 2 }, {
    requestId });
  if (responseAddress) channel.publish(responseAddress, '', content, { mandatory: true });
  else channel.sendToQueue(request.properties.replyTo, content);
  await channel.waitForConfirms();
  channel.ack(request);
}

async function serve() {
  const connection = await connect();
  const channel = await connection.createConfirmChannel();
  channel.on('return', (message) => assert.fail(`nobody waits for ${message.content}`));
  const queue = await declareEndpoint(channel, 'checks', CHECK);
  await channel.consume(queue, (request) => answer(channel, request));
  return connection;
}

async function ask(channel, got, further, properties) {
  for (let number = 0; number < 10; number += 1) {
    const request = envelope([CHECK], { number }, { requestId: `request ${number}`, ...further });
    await publish(channel, CHECK, request, { expiration: 30_000, ...properties });
  }
  await until(() => got.length === 10);
  assert.deepEqual(numbers(got), Array.from({ length: 10 }, (_, number) => 2 * number));
  assert.deepEqual(read(got[9]).requestId, 'request 9');
}

async function requests(connection) {
  const channel = await connection.createConfirmChannel();
  const bus = await declareBus(channel);
  const { got, consumerTag } = await collect(channel, bus);
  const server = await serve();
  await ask(channel, got, { responseAddress: bus });
  // With its consumer goes the queue, with that the exchange.
  await channel.cancel(consumerTag);
  await gone(connection, (other) => other.checkExchange(bus));
  await gone(connection, (other) => other.checkQueue(bus));
  await server.close();
}

async function directReply(connection) {
  const channel = await connection.createConfirmChannel();
  const { got } = await collect(channel, 'amq.rabbitmq.reply-to', { noAck: true });
  const server = await serve();
  await ask(channel, got, {}, { replyTo: 'amq.rabbitmq.reply-to' });
  await server.close();
}

// A bus that died before it consumed leaves nothing, either.
async function temporaryBus(connection) {
  const channel = await connection.createConfirmChannel();
  const bus = await declareBus(channel);
  let returned = false;
  channel.on('return', () => { returned = true; });
  await publish(channel, 'host_Shop_bus_1', envelope([], {}));
  assert.deepEqual(bodies([await channel.get(bus)]), [envelope([], {}).toString()]);
  while (!returned) {
    // By its name, since to declare a queue passively is to use it.
    channel.sendToQueue(bus, Buffer.from('anyone?'), { mandatory: true });
    await channel.waitForConfirms();
  }
  await gone(connection, (other) => other.checkExchange(bus));
}

async function gone(connection, look) {
  const channel = await connection.createChannel();
  const closed = once(channel, 'error');
  await assert.rejects(look(channel), /404/);
  await closed;
}

run({
  publish_subscribe: publishSubscribe, faults, requests, direct_reply: directReply,
  temporary_bus: temporaryBus,
});
