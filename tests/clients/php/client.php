<?php
// Scenarios through php-amqplib.

declare(strict_types=1);

require_once 'PhpAmqpLib/autoload.php';
require_once __DIR__ . '/dead_letters.php';

use PhpAmqpLib\Channel\AMQPChannel;
use PhpAmqpLib\Connection\AMQPStreamConnection;
use PhpAmqpLib\Exception\AMQPBasicCancelException;
use PhpAmqpLib\Exception\AMQPConnectionBlockedException;
use PhpAmqpLib\Exception\AMQPConnectionClosedException;
use PhpAmqpLib\Exception\AMQPIOException;
use PhpAmqpLib\Exception\AMQPProtocolChannelException;
use PhpAmqpLib\Exception\AMQPTimeoutException;
use PhpAmqpLib\Message\AMQPMessage;
use PhpAmqpLib\Wire\AMQPAbstractCollection as Type;
use PhpAmqpLib\Wire\AMQPTable;

const LIMIT_SECONDS = 30;

set_error_handler(function (int $level, string $what, string $file, int $line): bool {
    // The library silences what its sockets say with @.
    if ((error_reporting() & $level) === 0) {
        return false;
    }
    throw new ErrorException($what, 0, $level, $file, $line);
}, E_ALL & ~E_DEPRECATED);

function told(string $key): string
{
    $value = getenv($key);
    check($value !== false, "$key is not set");
    return $value;
}

function name(string $suffix): string
{
    return told('AMQP_PREFIX') . $suffix;
}

function check(bool $holds, string $what = 'not as it should be'): void
{
    if (!$holds) {
        throw new LogicException($what);
    }
}

function same(mixed $expected, mixed $got): void
{
    check($expected === $got, var_export($got, true) . ' is not ' . var_export($expected, true));
}

function connect(int $heartbeat = 30, ?string $user = null): AMQPStreamConnection
{
    return new AMQPStreamConnection(
        told('AMQP_HOST'), told('AMQP_PORT'), $user ?? told('AMQP_USER'), told('AMQP_PASSWORD'),
        read_write_timeout: 2.0 * $heartbeat, heartbeat: $heartbeat);
}

/** Handles what arrives until the condition holds. */
function pump(AMQPChannel $channel, callable $condition): void
{
    while (!$condition()) {
        $channel->wait(null, false, LIMIT_SECONDS);
    }
}

function own(AMQPChannel $channel): string
{
    return $channel->queue_declare('', exclusive: true, auto_delete: false)[0];
}

function ready(AMQPChannel $channel, string $queue): int
{
    return $channel->queue_declare($queue, true)[1];
}

function put(AMQPStreamConnection $connection, string $queue, AMQPMessage ...$messages): void
{
    $channel = $connection->channel();
    $channel->confirm_select();
    foreach ($messages as $message) {
        $channel->basic_publish($message, '', $queue);
    }
    $channel->wait_for_pending_acks(LIMIT_SECONDS);
    $channel->close();
}

/** A queue of this connection that holds messages 0, 1, 2 ... */
function filled(AMQPStreamConnection $connection, int $count): string
{
    $queue = own($connection->channel());
    put($connection, $queue, ...array_map(
        fn (int $number) => new AMQPMessage("$number"), $count ? range(0, $count - 1) : []));
    return $queue;
}

function collect(AMQPChannel $channel, string $queue, bool $noAck = false): ArrayObject
{
    $got = new ArrayObject();
    $channel->basic_consume(
        $queue, no_ack: $noAck, callback: function ($message) use ($got) { $got[] = $message; });
    return $got;
}

function topology(AMQPStreamConnection $connection): void
{
    $channel = $connection->channel();
    [$logs, $further, $queue] = [name('logs'), name('further'), name('queue')];
    $channel->exchange_declare($logs, 'topic', durable: true, auto_delete: false);
    $channel->exchange_declare($further, 'fanout', auto_delete: true);
    $channel->exchange_declare($logs, 'topic', true);
    same([$queue, 0, 0], $channel->queue_declare($queue, durable: true, auto_delete: false));
    $channel->queue_bind($queue, $further);
    $channel->exchange_bind($further, $logs, 'kern.*');
    $got = collect($channel, $queue, true);
    foreach (['kern.info', 'cron.info', 'kern.crit'] as $key) {
        $channel->basic_publish(new AMQPMessage($key), $logs, $key);
    }
    pump($channel, fn () => count($got) === 2);
    same([$logs, 'kern.info'], [$got[0]->getExchange(), $got[0]->getRoutingKey()]);
    same('kern.crit', $got[1]->body);
    $channel->exchange_unbind($further, $logs, 'kern.*');
    $channel->queue_unbind($queue, $further);
    $channel->queue_delete($queue);
    $channel->exchange_delete($logs);
}

function confirms(AMQPStreamConnection $connection): void
{
    $channel = $connection->channel();
    $queue = own($channel);
    $acked = 0;
    $channel->set_ack_handler(function () use (&$acked) { $acked += 1; });
    $channel->confirm_select();
    for ($number = 0; $number < 100; $number++) {
        $channel->basic_publish(new AMQPMessage("$number"), '', $queue);
    }
    $channel->wait_for_pending_acks(LIMIT_SECONDS);
    same(100, $acked);
    same(100, ready($channel, $queue));
    same(100, $channel->queue_purge($queue));
}

function returns(AMQPStreamConnection $connection): void
{
    $channel = $connection->channel();
    $heard = [];
    $channel->set_return_listener(
        function ($code, $text, $exchange, $key, $message) use (&$heard) {
            $heard[] = [$code, $text, $exchange, $key, $message->body];
        });
    $channel->confirm_select();
    $channel->basic_publish(new AMQPMessage('lost'), '', name('nowhere'), mandatory: true);
    $channel->wait_for_pending_acks_returns(LIMIT_SECONDS);
    same([[312, 'NO_ROUTE', '', name('nowhere'), 'lost']], $heard);
}

function acks(AMQPStreamConnection $connection): void
{
    $channel = $connection->channel();
    $queue = filled($connection, 5);
    $got = collect($channel, $queue);
    pump($channel, fn () => count($got) === 5);
    $got[1]->ack(true);
    $got[2]->reject(false);
    $got[4]->nack(true, true);
    pump($channel, fn () => count($got) === 7);
    same([true, '3'], [$got[5]->isRedelivered(), $got[5]->body]);
    same([true, '4'], [$got[6]->isRedelivered(), $got[6]->body]);
    $channel->basic_recover(true);
    pump($channel, fn () => count($got) === 9);
    $got[8]->ack(true);
    $channel->basic_cancel($got[8]->getConsumerTag());
    same(0, ready($channel, $queue));
}

function prefetch(AMQPStreamConnection $connection, bool $global = false): void
{
    $channel = $connection->channel();
    $queue = filled($connection, 10);
    $channel->basic_qos(0, 3, $global);
    $first = collect($channel, $queue);
    $second = $global ? collect($channel, $queue) : [];
    pump($channel, fn () => count($first) + count($second) === 3);
    same(7, ready($channel, $queue));
    ($first[0] ?? $second[0])->ack();
    pump($channel, fn () => count($first) + count($second) === 4);
    same(6, ready($channel, $queue));
}

function get(AMQPStreamConnection $connection): void
{
    $channel = $connection->channel();
    $queue = filled($connection, 2);
    $message = $channel->basic_get($queue);
    same([1, false], [$message->getMessageCount(), $message->isRedelivered()]);
    $message->nack(true);
    $message = $channel->basic_get($queue);
    same(['0', true], [$message->body, $message->isRedelivered()]);
    $message->ack();
    same('1', $channel->basic_get($queue, true)->body);
    same(null, $channel->basic_get($queue));
}

function large(AMQPStreamConnection $connection): void
{
    $channel = $connection->channel();
    $queue = own($channel);
    foreach ([1_536_000, 0, 131_064, 131_065] as $size) {
        $body = substr(str_repeat('abcdefg', intdiv($size, 7) + 1), 0, $size);
        put($connection, $queue, new AMQPMessage($body));
        check($channel->basic_get($queue, true)->body === $body, "another body of $size");
    }
}

function headers(AMQPStreamConnection $connection): void
{
    $channel = $connection->channel();
    $queue = own($channel);
    $table = new AMQPTable([
        'text' => 'grün', 'true' => true, 'small' => -7, 'large' => 1 << 60, 'none' => null,
        'list' => [1, 'two', null, [3]], 'table' => ['inner' => ['deep' => 1]]]);
    $table->set('bytes', "\x00\xff", Type::T_BYTES);
    $table->set('i8', -8, Type::T_INT_SHORTSHORT);
    $table->set('i16', -300, Type::T_INT_SHORT);
    $table->set('time', 1577934245, Type::T_TIMESTAMP);
    $properties = [
        'content_type' => 'text/plain', 'content_encoding' => 'utf-8', 'delivery_mode' => 2,
        'priority' => 3, 'correlation_id' => 'c', 'reply_to' => 'r', 'message_id' => 'm',
        'timestamp' => 1577934245, 'type' => 't', 'user_id' => told('AMQP_USER'), 'app_id' => 'a'];
    $sent = new AMQPMessage('x', $properties + ['application_headers' => $table]);
    put($connection, $queue, $sent);
    $back = $channel->basic_get($queue, true)->get_properties();
    $headers = $back['application_headers']->getNativeData();
    unset($back['application_headers']);
    ksort($back);
    ksort($properties);
    same($properties, $back);
    check($table->getNativeData() == $headers, var_export($headers, true));
}

function errors(AMQPStreamConnection $connection): void
{
    $queue = name('owned');
    $connection->channel()->queue_declare($queue, exclusive: true);
    closes($connection, 404, fn ($channel) => $channel->queue_declare(name('no'), true));
    closes($connection, 406, fn ($channel) => $channel->queue_declare(
        $queue, exclusive: true, auto_delete: false));
    closes($connection, 406, fn ($channel) => $channel->basic_ack(99));
    closes($connection, 404, fn ($channel) => $channel->basic_publish(
        new AMQPMessage(''), name('no')));
    closes($connection, 403, fn ($channel) => $channel->exchange_delete('amq.topic'));
    $other = connect();
    closes($other, 405, fn ($channel) => $channel->basic_get($queue));
    $other->close();
    try {
        connect(30, 'no');
    } catch (AMQPConnectionClosedException $refused) {
        same(403, $refused->getCode());
        return;
    }
    throw new LogicException('logged in');
}

/** The channel is closed with this code; the connection goes on. */
function closes(AMQPStreamConnection $connection, int $code, callable $action): void
{
    $channel = $connection->channel();
    try {
        $action($channel);
        $channel->exchange_declare('amq.direct', 'direct', true);
    } catch (AMQPProtocolChannelException $closed) {
        same($code, $closed->getCode());
        $connection->channel()->close();
        return;
    }
    throw new LogicException("not refused with $code");
}

function tx(AMQPStreamConnection $connection): void
{
    [$channel, $outside] = [$connection->channel(), $connection->channel()];
    $queue = filled($connection, 1);
    $channel->tx_select();
    $message = $channel->basic_get($queue);
    $channel->basic_publish(new AMQPMessage('committed'), '', $queue);
    $message->ack();
    same(0, ready($outside, $queue));
    $channel->tx_commit();
    same('committed', $outside->basic_get($queue, true)->body);
    $channel->basic_publish(new AMQPMessage('rolled back'), '', $queue);
    $channel->tx_rollback();
    $channel->tx_commit();
    same(0, ready($outside, $queue));
}

function cancel_notify(AMQPStreamConnection $connection): void
{
    $channel = $connection->channel();
    [$queue] = $channel->queue_declare(name('doomed'), auto_delete: false);
    $tag = $channel->basic_consume($queue);
    $connection->channel()->queue_delete($queue);
    try {
        pump($channel, fn () => false);
    } catch (AMQPBasicCancelException $cancelled) {
        same($tag, $cancelled->consumerTag);
    }
    $channel->exchange_declare('amq.direct', 'direct', true);
}

function reply_to(AMQPStreamConnection $connection): void
{
    $channel = $connection->channel();
    $queue = own($channel);
    $answers = collect($channel, 'amq.rabbitmq.reply-to', true);
    $channel->basic_publish(
        new AMQPMessage('question', ['reply_to' => 'amq.rabbitmq.reply-to']), '', $queue);
    $asked = $channel->basic_get($queue, true);
    $server = connect();
    put($server, $asked->get('reply_to'), new AMQPMessage("answer to {$asked->body}"));
    pump($channel, fn () => count($answers) === 1);
    same('answer to question', $answers[0]->body);
    $server->close();
}

function expiration(AMQPStreamConnection $connection): void
{
    $channel = $connection->channel();
    $queue = own($channel);
    put($connection, $queue, new AMQPMessage('kept', ['expiration' => '60000']));
    same('60000', $channel->basic_get($queue, true)->get('expiration'));
    put($connection, $queue, new AMQPMessage('gone', ['expiration' => '0']));
    same(0, ready($channel, $queue));
}

/** The library sends heartbeats when it is called, so it is called often. */
function heartbeat(AMQPStreamConnection $connection): void
{
    same(1, $connection->getHeartbeat());
    $channel = $connection->channel();
    collect($channel, own($channel));
    for ($end = microtime(true) + 5; microtime(true) < $end;) {
        $connection->checkHeartBeat();
        try {
            $channel->wait(null, false, 0.3);
        } catch (AMQPTimeoutException) {
            continue;
        }
    }
    $connection->channel()->close();
}

function blocked(AMQPStreamConnection $connection): void
{
    $channel = $connection->channel();
    $queue = own($channel);
    $channel->confirm_select();
    $channel->basic_publish(new AMQPMessage('held up'), '', $queue);
    until($channel, fn () => $connection->isBlocked());
    try {
        $channel->basic_publish(new AMQPMessage('not even sent'), '', $queue);
        check(false, 'published while blocked');
    } catch (AMQPConnectionBlockedException) {
        echo "blocked\n";
    }
    until($channel, fn () => !$connection->isBlocked());
    $channel->wait_for_pending_acks(LIMIT_SECONDS);
}

function until(AMQPChannel $channel, callable $condition): void
{
    for ($end = microtime(true) + LIMIT_SECONDS; !$condition();) {
        check(microtime(true) < $end, 'waited too long');
        try {
            $channel->wait(null, true, 0.1);
        } catch (AMQPTimeoutException) {
            continue;
        }
    }
}

/** As the library's documentation has it: connect again when the connection was closed. */
function reconnect(AMQPStreamConnection $connection): void
{
    while (true) {
        try {
            consume($connection);
            $connection->close();
            return;
        } catch (AMQPConnectionClosedException | AMQPIOException $closed) {
            $connection = again();
        }
    }
}

function consume(AMQPStreamConnection $connection): void
{
    $channel = $connection->channel();
    [$queue] = $channel->queue_declare(name('queue'), auto_delete: false);
    $channel->basic_consume($queue, callback: function (AMQPMessage $message) use ($channel) {
        echo "got {$message->body}\n";
        $message->ack();
        if ($message->body === 'after') {
            $channel->stopConsume();
        }
    });
    echo "ready\n";
    $channel->consume();
}

function again(): AMQPStreamConnection
{
    for ($end = microtime(true) + LIMIT_SECONDS; true; usleep(100_000)) {
        try {
            return connect();
        } catch (AMQPIOException $failed) {
            check(microtime(true) < $end, $failed->getMessage());
        }
    }
}

function global_prefetch(AMQPStreamConnection $connection): void
{
    prefetch($connection, true);
}

$scenario = $argv[1];
$connection = connect($scenario === 'heartbeat' ? 1 : 30);
$scenario($connection);
$connection->isConnected() && $connection->close();
echo "ok $scenario\n";
