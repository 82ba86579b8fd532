'use strict';
// What the programs share: where the broker is, waiting, and queues.

const assert = require('node:assert/strict');
const amqp = require('amqplib');

const { AMQP_HOST, AMQP_PORT, AMQP_USER, AMQP_PASSWORD, AMQP_PREFIX } = process.env;
const LIMIT_MS = 30_000;

const name = (suffix) => AMQP_PREFIX + suffix;

const pause = (ms) => new Promise((done) => { setTimeout(done, ms); });

function connect(settings = {}) {
  return amqp.connect({
    hostname: AMQP_HOST, port: Number(AMQP_PORT), username: AMQP_USER, password: AMQP_PASSWORD,
    heartbeat: 30, ...settings,
  });
}

async function until(condition) {
  const deadline = Date.now() + LIMIT_MS;
  while (!condition()) {
    assert.ok(Date.now() < deadline, 'waited too long');
    await pause(10);
  }
}

// A queue of this connection that holds messages 0, 1, 2 ...
async function filled(connection, count) {
  const channel = await connection.createConfirmChannel();
  const { queue } = await channel.assertQueue('', { exclusive: true });
  for (let number = 0; number < count; number += 1) {
    channel.sendToQueue(queue, Buffer.from(`${number}`));
  }
  await channel.waitForConfirms();
  await channel.close();
  return queue;
}

const ready = async (channel, queue) => (await channel.checkQueue(queue)).messageCount;

async function collect(channel, queue, settings) {
  const got = [];
  const { consumerTag } = await channel.consume(queue, (message) => got.push(message), settings);
  return { got, consumerTag };
}

const bodies = (messages) => messages.map((message) => message.content.toString());

// Runs the scenario that the command line names, on a connection of its own.
async function main(scenarios, settings = {}) {
  const scenario = process.argv[2];
  const connection = await connect(settings[scenario]);
  await scenarios[scenario](connection);
  if (scenario !== 'reconnect') await connection.close();
  console.log(`ok ${scenario}`);
}

function run(scenarios, settings) {
  main(scenarios, settings).catch((error) => {
    console.error(error);
    process.exit(1);
  });
}

module.exports = {
  AMQP_USER, LIMIT_MS, bodies, collect, connect, filled, name, pause, ready, run, until,
};
