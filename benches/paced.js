'use strict';
// A client with a fixed rate on amqplib. It shares no code with loadgen, so what one of them sends the
// other must have received.
//
//   node paced.js publish|consume|both URI QUEUE RATE WARMUP
//
// RATE is in messages a second, 0 is as fast as it goes; WARMUP in seconds is left out of the figures. It
// says "ready" once it publishes or consumes, goes on until SIGTERM, deletes the queue, and prints what it
// sent and received a second as one line of JSON. Bodies are stamped as loadgen stamps them: when a message
// was due (ns of the monotonic clock), then its number.

const amqp = require('amqplib');

const [mode, uri, queue, rate, warmup] = process.argv.slice(2);
const RATE = Number(rate);
const WARMUP_NS = BigInt(Math.round(Number(warmup) * 1e9));
const SECOND_NS = 1e9;
const BODY = 16;
// As fast as it goes: so many under way, and so many before others have their turn.
const WINDOW = 2000;
const BURST = 200;

const now = () => process.hrtime.bigint();

// Counts from the end of the warm-up to the last message.
class Flow {
  constructor(start) {
    this.from = start + WARMUP_NS;
    this.all = 0;
    this.count = 0;
    this.first = 0n;
    this.last = 0n;
  }

  add(time) {
    this.all += 1;
    if (time < this.from) return;
    if (this.count === 0) this.first = time;
    this.count += 1;
    this.last = time;
  }

  rate() {
    const seconds = Number(this.last - this.first) / SECOND_NS;
    return seconds > 0 ? (this.count - 1) / seconds : 0;
  }
}

function body(due, number) {
  const body = Buffer.alloc(BODY);
  body.writeBigUInt64BE(due, 0);
  body.writeBigUInt64BE(BigInt(number), 8);
  return body;
}

// Publishes what is due by now, and comes back as soon as more may be.
function publishing(channel, start, sent, received) {
  const dueAt = (number) => start + BigInt(Math.floor((number * SECOND_NS) / RATE));
  const paced = () => {
    const due = Math.floor((Number(now() - start) * RATE) / SECOND_NS) + 1;
    for (const time = now(); sent.all < due; sent.add(time)) {
      channel.sendToQueue(queue, body(dueAt(sent.all), sent.all));
    }
    setTimeout(paced, 1);
  };
  const flatOut = () => {
    const most = Math.min(sent.all + BURST, received.all + WINDOW);
    for (const time = now(); sent.all < most; sent.add(time)) {
      channel.sendToQueue(queue, body(time, sent.all));
    }
    setImmediate(flatOut);
  };
  return RATE > 0 ? paced : flatOut;
}

async function main() {
  const connection = await amqp.connect(uri, { noDelay: true });
  const channel = await connection.createChannel();
  await channel.assertQueue(queue, { durable: false });
  const start = now();
  const [sent, received] = [new Flow(start), new Flow(start)];
  if (mode !== 'publish') {
    await channel.consume(queue, () => received.add(now()), { noAck: true });
  }
  if (mode !== 'consume') publishing(channel, start, sent, received)();
  process.on('SIGTERM', () => {
    const report = { sent: sent.rate(), received: received.rate(), count: received.all };
    channel.deleteQueue(queue).then(() => {
      process.stdout.write(`${JSON.stringify(report)}\n`, () => process.exit(0));
    });
  });
  process.stdout.write('ready\n');
}

main();
