'use strict';
// The topology that NServiceBus declares: conventional routing, where each type of event has an
// exchange that is bound to those of its base types and to the exchanges of its subscribers; and
// the delays, a chain of levels. Level N keeps a message for 2^N units, if bit N of the delay is
// set, and otherwise passes it on: the bits are the first words of the routing key, the rest is
// the address. The queues are classic ones; a unit is short here, and there are few levels.

const assert = require('node:assert/strict');
const { bodies, collect, name, ready, run, until } = require('./support');

const LEVELS = 4;
const UNIT_MS = 150;
const DELAY = 'NServiceBus.Transport.RabbitMQ.DelayInSeconds';
const DEATHS = ['x-death', 'x-first-death-exchange', 'x-first-death-queue', 'x-first-death-reason'];
const DELIVERY = name('nsb.delay-delivery');

const level = (number) => name(`nsb.delay-level-${String(number).padStart(2, '0')}`);

async function declareDelays(channel) {
  for (let number = LEVELS - 1; number >= 0; number -= 1) {
    await channel.assertExchange(level(number), 'topic', { durable: true });
    await channel.assertQueue(level(number), {
      durable: true, messageTtl: 2 ** number * UNIT_MS,
      deadLetterExchange: number > 0 ? level(number - 1) : DELIVERY,
      arguments: { 'x-queue-mode': 'lazy' },
    });
    await channel.bindQueue(level(number), level(number), `${'*.'.repeat(LEVELS - 1 - number)}1.#`);
  }
  await channel.assertExchange(DELIVERY, 'topic', { durable: true });
  for (let number = LEVELS - 1; number >= 0; number -= 1) {
    await channel.bindExchange(
      number > 0 ? level(number - 1) : DELIVERY, level(number),
      `${'*.'.repeat(LEVELS - 1 - number)}0.#`);
  }
}

async function declareEndpoint(channel, endpoint) {
  const address = name(endpoint);
  await channel.assertQueue(address, { durable: true });
  await channel.assertExchange(address, 'fanout', { durable: true });
  await channel.bindQueue(address, address, '');
  return address;
}

const receiveDelayed = (channel, address) => (
  channel.bindExchange(address, DELIVERY, `#.${address}`));

// Published to the level of the highest bit.
async function sendDelayed(channel, address, units, content, headers = {}) {
  const bits = units.toString(2).padStart(LEVELS, '0');
  const first = Math.max(0, LEVELS - 1 - bits.indexOf('1'));
  const key = [...bits, address].join('.');
  channel.publish(level(units ? first : 0), key, Buffer.from(content), {
    mandatory: true, persistent: true, headers: { ...headers, [DELAY]: units },
  });
  await channel.waitForConfirms();
  return key;
}

async function opened(connection) {
  const channel = await connection.createConfirmChannel();
  channel.on('return', (message) => assert.fail(`returned: ${message.fields.routingKey}`));
  return channel;
}

async function publishSubscribe(connection) {
  const channel = await opened(connection);
  const [order, event] = [name('Shop:OrderPlaced'), name('Shop:IEvent')];
  const sales = await declareEndpoint(channel, 'Shop.Sales');
  const audit = await declareEndpoint(channel, 'Shop.Audit');
  await channel.assertExchange(order, 'fanout', { durable: true });
  await channel.assertExchange(event, 'fanout', { durable: true });
  await channel.bindExchange(event, order, '');
  await channel.bindExchange(sales, order, '');
  await channel.bindExchange(audit, event, '');
  const properties = { persistent: true, headers: { 'NServiceBus.MessageIntent': 'Publish' } };
  channel.publish(order, '', Buffer.from('placed'), properties);
  channel.publish(event, '', Buffer.from('something'), properties);
  channel.publish(sales, '', Buffer.from('command'), { ...properties, mandatory: true });
  await channel.waitForConfirms();
  const { got } = await collect(channel, sales);
  const { got: audited } = await collect(channel, audit);
  await until(() => got.length === 2 && audited.length === 2);
  assert.deepEqual(bodies(got), ['placed', 'command']);
  assert.deepEqual(bodies(audited), ['placed', 'something']);
  await channel.unbindExchange(sales, order, '');
  channel.publish(order, '', Buffer.from('again'), properties);
  await until(() => audited.length === 3);
  assert.equal(got.length, 2);
}

// What a message tells of the levels that it waited on, the last one first.
const levels = (message) => message.properties.headers['x-death'].map((death) => [
  death.queue, death.exchange, death.reason, death.count, death['routing-keys']]);

async function delays(connection) {
  const channel = await opened(connection);
  await declareDelays(channel);
  const sales = await declareEndpoint(channel, 'Shop.Sales');
  const other = await declareEndpoint(channel, 'Shop.Sales.Reports');
  await receiveDelayed(channel, sales);
  await receiveDelayed(channel, other);
  const { got } = await collect(channel, sales, { noAck: true });
  const { got: others } = await collect(channel, other, { noAck: true });
  const begin = process.hrtime.bigint();
  const key = await sendDelayed(channel, sales, 5, 'in 5');
  await sendDelayed(channel, sales, 3, 'in 3');
  await sendDelayed(channel, other, 1, 'in 1');
  await sendDelayed(channel, sales, 0, 'at once');
  await until(() => got.length === 3 && others.length === 1);
  assert.ok(process.hrtime.bigint() - begin >= BigInt(5 * UNIT_MS) * 1_000_000n, 'too early');
  assert.deepEqual(bodies(got), ['at once', 'in 3', 'in 5']);
  assert.deepEqual(bodies(others), ['in 1']);
  assert.equal(got[0].properties.headers['x-death'], undefined);
  assert.deepEqual(levels(got[2]), [
    [level(0), level(1), 'expired', 1, [key]], [level(2), level(2), 'expired', 1, [key]]]);
  const { headers } = got[2].properties;
  assert.deepEqual(
    [...DEATHS.slice(1).map((each) => headers[each]), headers[DELAY]],
    [level(2), level(2), 'expired', 5]);
  assert.deepEqual([got[2].fields.exchange, got[2].fields.routingKey], [DELIVERY, key]);
}

// What fails is sent again with a delay, without the headers of its deaths, at last to `error`.
async function delayedRetries(connection) {
  const channel = await opened(connection);
  await declareDelays(channel);
  const sales = await declareEndpoint(channel, 'Shop.Sales');
  const error = await declareEndpoint(channel, 'error');
  await receiveDelayed(channel, sales);
  const told = [];
  await channel.prefetch(1);
  await channel.consume(sales, async (message) => {
    const headers = { ...message.properties.headers };
    const retries = headers['NServiceBus.DelayedRetries'] ?? 0;
    told.push(headers['x-death']?.map((death) => [death.queue, death.count]));
    DEATHS.forEach((each) => { delete headers[each]; });
    headers['NServiceBus.DelayedRetries'] = retries + 1;
    if (retries < 2) await sendDelayed(channel, sales, 1, message.content, headers);
    else channel.publish(error, '', message.content, { headers, persistent: true });
    channel.ack(message);
  });
  channel.publish(sales, '', Buffer.from('fails'), { persistent: true });
  const { got } = await collect(channel, error, { noAck: true });
  await until(() => got.length === 1);
  assert.deepEqual(bodies(got), ['fails']);
  assert.deepEqual(told, [undefined, [[level(0), 1]], [[level(0), 1]]]);
  assert.equal(got[0].properties.headers['NServiceBus.DelayedRetries'], 3);
  assert.equal(await ready(channel, sales), 0);
}

run({ publish_subscribe: publishSubscribe, delays, delayed_retries: delayedRetries });
