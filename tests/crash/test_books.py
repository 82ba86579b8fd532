"""The books against faked histories: what a broker must not do is noticed, what it may is not."""

import pytest

import link
from books import Books


class Tale:
    """A queue, an exchange and one publisher."""

    def __init__(self, **promises):
        self.books = Books(**promises)
        self.queue = self.books.queue_asked("q")
        self.books.there(self.queue)
        self.publisher = self.books.publisher()
        self.holder = None

    def publish(self, *numbers, confirm=True, persistent=True):
        for number in numbers:
            self.books.publish(self.publisher, number, self.books.default, "q", persistent)
            if confirm:
                self.books.confirm(self.publisher, number, number)
        return self

    def consume(self, **how):
        self.holder = self.books.holder(self.queue, **how)
        return self

    def deliver(self, *numbers, flag=False):
        for number in numbers:
            self.books.deliver(self.holder, number, self.publisher << 32 | number, flag)
        return self

    def settle(self, *numbers, **how):
        for number in numbers:
            self.books.settle(self.holder, number, **how)
        return self

    def sync(self):
        self.books.sync_asked(self.holder)
        self.books.synced(self.holder)
        return self

    def commit(self, answered=True):
        self.books.commit_asked(self.holder)
        if answered:
            self.books.committed(self.holder)
        return self

    def leave(self):
        self.books.closed(self.holder, clean=True)
        return self

    def kill(self):
        self.books.stopped(clean=False)
        return self

    def stop(self):
        self.books.stop_asked()
        self.books.stopped(clean=True)
        return self

    def drain(self, *numbers, flag=True):
        self.consume().deliver(*numbers, flag=flag)
        for number in numbers:
            if number in self.holder.held:
                self.settle(number)
        self.books.sync_asked(self.holder)
        self.books.drained(self.queue)
        self.books.synced(self.holder)
        return self.leave()

    def fine(self):
        assert self.books.complaints == []

    def wrong(self, *texts):
        found = [complaint.splitlines()[0] for complaint in self.books.complaints]
        assert len(found) == len(texts), found
        for text, complaint in zip(texts, found):
            assert text in complaint


def test_all_that_was_confirmed_is_there():
    tale = Tale().publish(1, 2, 3).kill()
    tale.books.counted(tale.queue, 3)
    tale.drain(1, 2, 3).fine()


def test_a_lost_message():
    tale = Tale().publish(1, 2, 3).kill()
    tale.books.counted(tale.queue, 2)
    tale.drain(1, 3).wrong("has 2 messages, expected 3", "1/2 of queue q was confirmed and is lost")


def test_the_story_of_a_message_is_told():
    tale = Tale().publish(1, 2).kill().drain(1)
    told = tale.books.complaints[0].splitlines()[1:]
    assert [line.split(": ")[1].strip() for line in told] == [
        "publish 1/2", "confirm 1/2", "stop  killed"]


@pytest.mark.parametrize("came", [(1, 2), (1,), (2,), ()])
def test_what_is_not_confirmed_may_be_there(came):
    tale = Tale().publish(1, 2, confirm=False).kill()
    tale.books.counted(tale.queue, len(came))
    tale.drain(*came).fine()


def test_what_was_not_there_when_all_was_taken_never_comes():
    Tale().publish(1, confirm=False).kill().drain().kill().drain(1).wrong("when it was emptied")


def test_what_a_restart_brought_back_stays():
    tale = Tale().publish(1, confirm=False).kill()
    tale.consume().deliver(1, flag=True).kill()
    tale.drain().wrong("is lost")


def test_nobody_published_it():
    tale = Tale().consume()
    tale.books.deliver(tale.holder, 1, 7 << 32 | 1, False)
    link.take(tale.books, tale.holder, 2, False, b"something else")
    tale.wrong("was never published", "14 bytes that nobody published")


def test_a_body_is_whole_or_it_is_not():
    for size in (16, 17, 5000):
        whole = link.body(3, 4, size, True)
        assert len(whole) == size and link.ident(whole) == 3 << 32 | 4
        for damaged in (whole[:-1], whole + b"x", whole[:-1] + bytes([whole[-1] ^ 1])):
            assert link.ident(damaged) is None


def test_no_transient_message_outlives_a_restart():
    tale = Tale().publish(1, persistent=False).publish(2)
    tale.stop().drain(1, 2, flag=False).wrong("is transient and from before a restart")


def test_rolled_back():
    tale = Tale().publish(1, confirm=False)
    tale.books.rolled_back(tale.publisher, 1, 1)
    tale.kill().drain(1).wrong("was rolled back")


def test_the_order_of_a_publisher():
    Tale().publish(1, 2, 3).consume().deliver(1, 3, 2).wrong("1/2 of queue q came behind 1/3")
    Tale().publish(1, 2, 3).kill().drain(1, 3, 2).wrong("1/2 of queue q came behind 1/3")


def test_what_was_given_back_may_come_later_but_not_what_never_came():
    tale = Tale().publish(1, 2, 3, 4).consume().deliver(1, 2)
    tale.settle(1, requeue=True).deliver(3).deliver(1, flag=True).fine()
    tale.publish(5, 6).deliver(6, 5).wrong("1/5 of queue q came behind 1/6")


def test_twice_at_once():
    Tale().publish(1).consume().deliver(1).deliver(1, flag=True).wrong(
        "twice at once")


def test_again_without_the_flag():
    tale = Tale().publish(1).consume().deliver(1).settle(1, requeue=True)
    tale.deliver(1).wrong("without the flag", "came behind")
    Tale().publish(1).consume().deliver(1).leave().stop().drain(1, flag=False).wrong(
        "without the flag")


def test_flags_are_exact_after_a_clean_stop():
    tale = Tale().publish(1, 2).consume().deliver(1).leave().stop()
    tale.consume().deliver(1, flag=True).deliver(2).fine()
    Tale().publish(1).stop().drain(1).wrong("flagged redelivered at its first delivery")


def test_after_a_kill_or_with_a_consumer_that_vanished_all_may_be_flagged():
    Tale().publish(1).kill().drain(1).fine()
    Tale().publish(1).consume().stop().drain(1).fine()
    tale = Tale().publish(1).kill().publish(2)
    tale.consume().deliver(1, 2, flag=True).wrong("1/2 of queue q is flagged")


def test_an_ack_may_be_undone_by_a_kill_with_the_flag():
    Tale().publish(1).consume().deliver(1).settle(1).sync().kill().drain(1).fine()
    Tale().publish(1).consume().deliver(1).settle(1).sync().kill().drain().fine()
    Tale().publish(1).consume().deliver(1).settle(1).sync().kill().drain(1, flag=False).wrong(
        "without the flag")


def test_an_ack_that_arrived_is_not_undone_by_a_stop():
    tale = Tale().publish(1).consume().deliver(1).settle(1)
    tale.sync().stop().drain(1).wrong("was settled before a clean stop")
    tale = Tale().publish(1).consume().deliver(1).settle(1)
    tale.stop().drain(1).fine()


def test_a_settled_message_does_not_come_back_while_the_broker_is_up():
    tale = Tale().publish(1).consume().deliver(1).settle(1)
    tale.consume().deliver(1, flag=True).wrong("came back after it was settled")


def test_an_ack_of_a_channel_that_vanished_may_not_have_arrived():
    tale = Tale().publish(1).consume().deliver(1).settle(1)
    tale.books.closed(tale.holder)
    tale.consume().deliver(1, flag=True).fine()


def test_an_answered_answers_are_final():
    def told(**promises):
        return Tale(**promises).publish(1).consume().deliver(1).settle(1, tx=True)

    told().commit().kill().drain(1).wrong("settled by a commit that was answered")
    told(answers_are_final=False).commit().kill().drain(1).fine()
    told().commit(answered=False).kill().drain(1).fine()
    told().commit(answered=False).kill().drain().fine()
    told().kill().drain(1).fine()
    told().kill().drain().wrong("is lost")


def test_a_purge():
    tale = Tale().publish(1)
    taken = tale.books.purge_asked(tale.queue)
    tale.books.purged(tale.queue, taken)
    tale.publish(2).stop().drain(1, 2, flag=False).wrong("was settled before a clean stop")
    tale = Tale().publish(1)
    tale.books.purge_asked(tale.queue)
    tale.kill().drain().fine()


def test_a_publish_while_a_purge_is_under_way_may_be_purged_or_not():
    def told():
        tale = Tale()
        taken = tale.books.purge_asked(tale.queue)
        tale.publish(1)
        tale.books.purged(tale.queue, taken)
        return tale

    told().kill().drain().fine()
    told().kill().drain(1).fine()
    told().publish(2).kill().drain(1).wrong("is lost")


def test_what_a_closing_channel_holds_may_come_to_others_at_once():
    def told():
        return Tale().publish(1).consume().deliver(1)

    told().consume().deliver(1, flag=True).wrong("twice at once")
    tale = told()
    tale.books.close_asked(tale.holder)
    tale.consume().deliver(1, flag=True).fine()


def test_acks_by_consuming():
    tale = Tale().publish(1, 2).consume(auto_ack=True).deliver(1).leave()
    tale.stop().drain(2, flag=False).fine()
    Tale().publish(1, 2).consume(auto_ack=True).deliver(1).leave().stop().drain(
        1, 2, flag=True).wrong("before a clean stop", "flagged redelivered at its first")
    Tale().publish(1, 2).consume(auto_ack=True).deliver(1).stop().drain().fine()


def count(tale, consumers, between=lambda: None):
    asked = tale.books.count_asked(tale.queue)
    between()
    tale.books.consumers_counted(tale.queue, asked, consumers)


def taker(tale, answered=True):
    tale.consume(auto_ack=True)
    if answered:
        tale.books.consumes(tale.holder)
    return tale.holder


def vanished(answered=True):
    tale = Tale().publish(1)
    tale.books.closed(taker(tale, answered))
    return tale


def test_what_a_vanished_client_may_have_been_sent_may_be_gone():
    vanished().publish(2).kill().drain().fine()
    tale = vanished().publish(2)
    count(tale, 1)
    tale.publish(3).kill().drain().fine()


def test_what_is_sent_behind_the_news_that_it_vanished_is_there():
    tale = vanished().publish(2)
    count(tale, 0)
    tale.publish(3).kill().drain().wrong("1/3 of queue q was confirmed and is lost")


def test_what_was_under_way_when_it_was_noticed_may_be_gone():
    tale = vanished().publish(2, confirm=False)
    count(tale, 0)
    tale.books.confirm(tale.publisher, 2, 2)
    tale.kill().drain().fine()


def test_other_consumers_are_not_taken_for_the_one_that_vanished():
    tale = vanished()
    taker(tale)
    count(tale, 1)
    tale.publish(2).leave().kill().drain().wrong("1/2 of queue q was confirmed and is lost")
    tale = vanished()
    other = taker(tale)
    count(tale, 1, between=lambda: tale.books.cancel_asked(other))
    tale.publish(2).leave().kill().drain().fine()


def test_who_vanishes_while_a_count_is_under_way_is_for_the_next_one():
    tale = Tale()
    taker(tale)
    count(tale, 0, between=lambda: tale.books.closed(tale.holder))
    tale.publish(1).kill().drain().fine()


def test_a_consume_that_was_not_answered_may_be_read_late():
    tale = vanished(answered=False)
    count(tale, 0)
    tale.publish(2).kill().drain().fine()


def test_who_was_answered_is_counted():
    tale = Tale()
    taker(tale)
    count(tale, 0)
    tale.wrong("queue q counts 0 consumers, 1 were answered")


def test_while_a_broker_stops_messages_go_from_one_to_the_next():
    tale = Tale().publish(1).consume().deliver(1)
    tale.books.stop_asked()
    tale.consume().deliver(1, flag=True)
    tale.books.stopped(clean=True)
    tale.drain(1).fine()


# Topology ----------------------------------------------------------------------------------------


def fan(tale, sure=True):
    books = tale.books
    exchange = books.exchange_asked("fan", "fanout")
    books.there(exchange)
    binding = books.bind_asked(exchange, tale.queue)
    if sure:
        books.there(binding)
    return exchange, binding


def test_what_was_declared_is_there_and_what_was_deleted_is_not():
    tale = Tale()
    exchange, binding = fan(tale)
    tale.kill()
    for thing in (binding, exchange, tale.queue):
        tale.books.found(thing, False)
    tale.wrong("binding from 'fan' to q by '' is not there", "exchange fan is not there",
               "queue q is not there")
    tale = Tale()
    tale.books.end_asked(tale.queue)
    tale.books.ended(tale.queue)
    tale.kill().books.found(tale.queue, True)
    tale.wrong("queue q is there although")


def test_an_answer_may_be_forgotten_where_that_is_not_promised():
    tale = Tale(answers_are_final=False).kill()
    tale.books.found(tale.queue, False)
    tale.fine()


def test_what_was_not_answered_may_be_there_or_not():
    for exists in (True, False):
        tale = Tale()
        queue = tale.books.queue_asked("new")
        tale.kill().books.found(queue, exists)
        tale.books.end_asked(tale.queue)
        tale.kill().books.found(tale.queue, exists)
        tale.fine()


def test_a_queue_that_is_not_durable_is_gone():
    tale = Tale()
    queue = tale.books.queue_asked("passing", durable=False)
    tale.books.there(queue)
    tale.stop().books.found(queue, True)
    tale.wrong("queue passing is there although")


@pytest.mark.parametrize("sure", [True, False])
def test_a_fanout_confirms_for_the_queues_that_were_bound_all_the_time(sure):
    tale = Tale()
    exchange, _ = fan(tale, sure)
    tale.books.publish(tale.publisher, 1, exchange, "")
    tale.books.confirm(tale.publisher, 1, 1)
    tale.kill().drain().wrong(*["is lost"] * sure)


def test_a_binding_that_comes_while_a_message_is_under_way():
    tale = Tale()
    exchange = tale.books.exchange_asked("fan", "fanout")
    tale.books.publish(tale.publisher, 1, exchange, "")
    tale.books.there(tale.books.bind_asked(exchange, tale.queue))
    tale.consume().deliver(1).fine()


def test_a_binding_that_was_gone_before_a_message_came():
    tale = Tale()
    exchange, binding = fan(tale)
    tale.books.end_asked(binding)
    tale.books.ended(binding)
    tale.books.publish(tale.publisher, 1, exchange, "")
    tale.consume().deliver(1).wrong("where it was never sent")


def test_a_queue_of_an_old_name_is_empty():
    tale = Tale().publish(1)
    tale.books.end_asked(tale.queue)
    tale.books.ended(tale.queue)
    tale.queue = tale.books.queue_asked("q")
    tale.books.there(tale.queue)
    tale.publish(2).kill().drain(1, 2).wrong("where it was never sent")
