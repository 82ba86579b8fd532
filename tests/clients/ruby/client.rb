# frozen_string_literal: true

# Scenarios through bunny.

require 'bunny'
require 'timeout'

LIMIT_SECONDS = 30
LARGE = ('abcdefg' * 220_000).b

def named(suffix) = ENV.fetch('AMQP_PREFIX') + suffix

def connect(**settings)
  Bunny.new({
    host: ENV.fetch('AMQP_HOST'), port: ENV.fetch('AMQP_PORT').to_i,
    user: ENV.fetch('AMQP_USER'), password: ENV.fetch('AMQP_PASSWORD'), heartbeat: 30,
    network_recovery_interval: 0.2, logger: Logger.new($stderr, level: Logger::FATAL)
  }.merge(settings)).start
end

def check(holds, what = 'not as it should be') = holds || raise(what)

def same(expected, got) = check(expected == got, "#{got.inspect} is not #{expected.inspect}")

def pop(from) = Timeout.timeout(LIMIT_SECONDS) { from.pop }

def ready(channel, queue) = channel.queue_declare(queue, passive: true).message_count

def own(channel) = channel.queue('', exclusive: true)

def put(connection, queue, *bodies, **properties)
  channel = connection.create_channel
  channel.confirm_select
  bodies.each { |body| channel.default_exchange.publish(body, routing_key: queue, **properties) }
  check(channel.wait_for_confirms, 'refused')
  channel.close
end

# A queue of this connection that holds messages 0, 1, 2 ...
def filled(connection, channel, count)
  queue = own(channel)
  put(connection, queue.name, *(0...count).map(&:to_s))
  queue
end

def collect(queue, manual_ack: true)
  got = Queue.new
  consumer = queue.subscribe(manual_ack: manual_ack) { |*message| got << message }
  [got, consumer]
end

# The scenarios, by name.
module Scenarios
  module_function

  def topology(connection)
    channel = connection.create_channel
    logs = channel.topic(named('logs'), durable: true)
    further = channel.fanout(named('further'), auto_delete: true)
    check(connection.exchange_exists?(logs.name) && !connection.queue_exists?(named('queue')))
    queue = channel.queue(named('queue'), durable: true)
    queue.bind(further)
    further.bind(logs, routing_key: 'kern.*')
    got, consumer = collect(queue, manual_ack: false)
    %w[kern.info cron.info kern.crit].each { |key| logs.publish(key, routing_key: key) }
    info, = pop(got)
    same([logs.name, 'kern.info'], [info.exchange, info.routing_key])
    same('kern.crit', pop(got)[2])
    consumer.cancel
    further.unbind(logs, routing_key: 'kern.*')
    queue.unbind(further)
    queue.delete
    logs.delete
  end

  def confirms(connection)
    channel = connection.create_channel
    queue = own(channel)
    channel.confirm_select
    100.times { |number| channel.default_exchange.publish(number.to_s, routing_key: queue.name) }
    check(channel.wait_for_confirms)
    same([true, 100], [channel.nacked_set.empty?, queue.message_count])
    queue.purge
    same(0, queue.message_count)
  end

  def returns(connection)
    channel = connection.create_channel
    heard = Queue.new
    direct = channel.direct('amq.direct')
    direct.on_return { |*returned| heard << returned }
    direct.publish('lost', routing_key: named('nowhere'), mandatory: true)
    info, _, body = pop(heard)
    same([312, 'NO_ROUTE', 'lost'], [info.reply_code, info.reply_text, body])
  end

  def acks(connection)
    channel = connection.create_channel
    queue = filled(connection, channel, 5)
    got, consumer = collect(queue)
    tags = Array.new(5) { pop(got)[0].delivery_tag }
    channel.ack(tags[1], true)
    channel.reject(tags[2], false)
    channel.nack(tags[4], true, true)
    again = Array.new(2) { pop(got) }
    same([[true, '3'], [true, '4']], again.map { |info, _, body| [info.redelivered?, body] })
    channel.basic_recover(true)
    last = Array.new(2) { pop(got)[0].delivery_tag }
    channel.ack(last[1], true)
    consumer.cancel
    same(0, ready(channel, queue.name))
  end

  def prefetch(connection, global: false)
    channel = connection.create_channel
    queue = filled(connection, channel, 10)
    channel.prefetch(3, global)
    got, = collect(queue)
    queue.subscribe(manual_ack: true) { |*message| got << message } if global
    held = Array.new(3) { pop(got)[0].delivery_tag }
    same(7, ready(channel, queue.name))
    channel.ack(held[0])
    pop(got)
    same(6, ready(channel, queue.name))
  end

  def global_prefetch(connection) = prefetch(connection, global: true)

  def get(connection)
    channel = connection.create_channel
    queue = filled(connection, channel, 2)
    info, = queue.pop(manual_ack: true)
    check(!info.redelivered?)
    channel.nack(info.delivery_tag, false, true)
    info, _, body = queue.pop(manual_ack: true)
    same(['0', true], [body, info.redelivered?])
    channel.ack(info.delivery_tag)
    same('1', queue.pop[2])
    same([nil, nil, nil], queue.pop)
  end

  def large(connection)
    queue = own(connection.create_channel)
    [LARGE.size, 0, 131_064, 131_065].each do |size|
      put(connection, queue.name, LARGE[0, size])
      check(queue.pop[2] == LARGE[0, size], "another body of #{size}")
    end
  end

  def headers(connection)
    queue = own(connection.create_channel)
    table = {
      'text' => 'grün', 'true' => true, 'false' => false, 'small' => -7, 'large' => 1 << 60,
      'double' => 2.5, 'none' => nil, 'time' => Time.at(1_577_934_245),
      'list' => [1, 'two', [3]], 'table' => { 'inner' => { 'deep' => 1 } }
    }
    properties = {
      content_type: 'text/plain', content_encoding: 'utf-8', priority: 3, correlation_id: 'c',
      reply_to: 'r', message_id: 'm', timestamp: 1_577_934_245, type: 't',
      user_id: ENV.fetch('AMQP_USER'), app_id: 'a'
    }
    put(connection, queue.name, 'x', **properties, persistent: true, headers: table)
    back = queue.pop[1].to_hash
    back[:headers]['text'].force_encoding(Encoding::UTF_8)
    same(table, back.delete(:headers))
    properties.merge!(delivery_mode: 2, timestamp: Time.at(1_577_934_245))
    same(properties, back)
  end

  def errors(connection)
    queue = named('owned')
    connection.create_channel.queue(queue, exclusive: true)
    closes(connection, Bunny::NotFound) { |channel| channel.queue(named('no'), passive: true) }
    closes(connection, Bunny::PreconditionFailed) do |channel|
      channel.queue(queue, exclusive: true, auto_delete: true)
    end
    closes(connection, Bunny::AccessRefused) { |channel| channel.exchange_delete('amq.topic') }
    other = connect
    closes(other, Bunny::ResourceLocked) { |channel| channel.queue(queue, passive: true) }
    other.close
    begin
      connect(user: 'no')
    rescue Bunny::AuthenticationFailureError
      return
    end
    raise 'logged in'
  end

  # The channel is closed with this error; the connection goes on.
  def closes(connection, kind)
    channel = connection.create_channel
    begin
      yield channel
    rescue kind
      check(channel.closed?)
      return connection.create_channel.close
    end
    raise "not refused with #{kind}"
  end

  def tx(connection)
    channel = connection.create_channel
    outside = connection.create_channel
    queue = filled(connection, channel, 1)
    channel.tx_select
    info, = queue.pop(manual_ack: true)
    channel.default_exchange.publish('committed', routing_key: queue.name)
    channel.ack(info.delivery_tag)
    same(0, ready(outside, queue.name))
    channel.tx_commit
    same('committed', outside.basic_get(queue.name, manual_ack: false)[2])
    channel.default_exchange.publish('rolled back', routing_key: queue.name)
    channel.tx_rollback
    channel.tx_commit
    same(0, ready(outside, queue.name))
  end

  def cancel_notify(connection)
    channel = connection.create_channel
    queue = channel.queue(named('doomed'))
    cancelled = Queue.new
    consumer = Bunny::Consumer.new(channel, queue)
    consumer.on_cancellation { |cancel| cancelled << cancel.consumer_tag }
    queue.subscribe_with(consumer)
    connection.create_channel.queue_delete(queue.name)
    same(consumer.consumer_tag, pop(cancelled))
    check(channel.open?)
  end

  def reply_to(connection)
    channel = connection.create_channel
    queue = own(channel)
    answers = Queue.new
    channel.basic_consume('amq.rabbitmq.reply-to', '', true) { |*message| answers << message }
    channel.default_exchange.publish(
      'question', routing_key: queue.name, reply_to: 'amq.rabbitmq.reply-to'
    )
    _, properties, body = queue.pop
    server = connect
    put(server, properties.reply_to, "answer to #{body}")
    same('answer to question', pop(answers)[2])
    server.close
  end

  def expiration(connection)
    queue = own(connection.create_channel)
    put(connection, queue.name, 'kept', expiration: '60000')
    same('60000', queue.pop[1].expiration)
    put(connection, queue.name, 'gone', expiration: '0')
    same(0, queue.message_count)
  end

  def dead_letters(connection)
    channel = connection.create_channel
    dead = own(channel)
    waiting = channel.queue(named('waiting'), exclusive: true, arguments: {
      'x-message-ttl' => 60_000, 'x-dead-letter-exchange' => '',
      'x-dead-letter-routing-key' => dead.name
    })
    got, = collect(dead, manual_ack: false)
    put(connection, waiting.name, 'rejected')
    channel.reject(waiting.pop(manual_ack: true)[0].delivery_tag)
    died(pop(got), 'rejected', waiting.name)
    put(connection, waiting.name, 'expired', expiration: '20')
    died(pop(got), 'expired', waiting.name, 'original-expiration' => '20')
  end

  # A dead letter tells why and where from.
  def died(message, reason, queue, **further)
    _, properties, body = message
    death, *others = properties.headers['x-death']
    check(death.delete('time').is_a?(Time))
    same([reason, [], nil, reason],
         [body, others, properties.expiration, properties.headers['x-first-death-reason']])
    same({ 'count' => 1, 'reason' => reason, 'queue' => queue, 'exchange' => '',
           'routing-keys' => [queue] }.merge(further), death)
  end

  def heartbeat(connection)
    same(1, connection.heartbeat)
    sleep 5
    check(connection.open?)
    connection.create_channel.close
  end

  def blocked(connection)
    heard = Queue.new
    connection.on_blocked { |blocked| heard << "blocked: #{blocked.reason}" }
    connection.on_unblocked { heard << 'unblocked' }
    channel = connection.create_channel
    channel.confirm_select
    queue = own(channel)
    channel.default_exchange.publish('held up', routing_key: queue.name)
    puts pop(heard)
    same('unblocked', pop(heard))
    check(channel.wait_for_confirms)
  end

  # Nothing but bunny's own recovery: it declares and consumes again by itself.
  def reconnect(connection)
    queue = connection.create_channel.queue(named('queue'))
    got, = collect(queue, manual_ack: false)
    puts 'ready'
    loop do
      body = Timeout.timeout(2 * LIMIT_SECONDS) { got.pop }[2]
      puts "got #{body}"
      break if body == 'after'
    end
  end
end

$stdout.sync = true
scenario = ARGV.fetch(0)
connection = connect(heartbeat: scenario == 'heartbeat' ? 1 : 30)
Scenarios.public_send(scenario, connection)
connection.close
puts "ok #{scenario}"
