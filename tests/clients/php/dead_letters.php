<?php
// A queue that passes on what it rejects and what expires in it.

declare(strict_types=1);

use PhpAmqpLib\Connection\AMQPStreamConnection;
use PhpAmqpLib\Message\AMQPMessage;
use PhpAmqpLib\Wire\AMQPTable;

function dead_letters(AMQPStreamConnection $connection): void
{
    $channel = $connection->channel();
    [$dead, $waiting] = [own($channel), name('waiting')];
    $channel->queue_declare($waiting, exclusive: true, arguments: new AMQPTable([
        'x-message-ttl' => 60_000, 'x-dead-letter-exchange' => '',
        'x-dead-letter-routing-key' => $dead]));
    $got = collect($channel, $dead, true);
    put($connection, $waiting, new AMQPMessage('rejected'));
    $channel->basic_get($waiting)->reject(false);
    pump($channel, fn () => count($got) === 1);
    put($connection, $waiting, new AMQPMessage('expired', ['expiration' => '20']));
    pump($channel, fn () => count($got) === 2);
    died($got[0], 'rejected', $waiting, []);
    died($got[1], 'expired', $waiting, ['original-expiration' => '20']);
}

/** A dead letter tells why and where from. */
function died(AMQPMessage $message, string $reason, string $queue, array $further): void
{
    $headers = $message->get('application_headers')->getNativeData();
    [$death] = $headers['x-death'];
    check($death['time'] instanceof DateTimeInterface);
    same(1, count($headers['x-death']));
    unset($death['time']);
    $expected = $further + [
        'count' => 1, 'reason' => $reason, 'queue' => $queue, 'exchange' => '',
        'routing-keys' => [$queue]];
    ksort($death);
    ksort($expected);
    same($expected, $death);
    same([$reason, false, $reason],
        [$message->body, $message->has('expiration'), $headers['x-first-death-reason']]);
}
